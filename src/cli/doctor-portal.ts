import { get, type IncomingMessage } from 'node:http';
import { type Millis, seconds } from '../model/time.js';
import { fail, ok, type Verdict } from './doctor-report.js';
import { plain } from './text.js';

const PATIENCE: Millis = seconds(3);
const HTTP = 80;
/** RFC 6585, 6: the network itself answers, and wants a log-in. */
const LOGIN_NEEDED = 511;

/**
 * Whether the network here wants a log-in first (a captive portal, RFC 8952): one that does answers plain HTTP in the
 * place of whoever was asked, and leads elsewhere. The supernode's own machine is asked, so that nobody else hears of it.
 */
export async function checkPortal(host: string, names: readonly string[], port = HTTP): Promise<Verdict> {
  const answer = await ask(host, port);
  const location = answer?.headers.location;
  if (answer?.statusCode === LOGIN_NEEDED) return portal('');
  // A web server of the supernode's own leads to itself.
  const elsewhere = location === undefined ? undefined : hostOf(location);
  if (elsewhere !== undefined && ![host, ...names].includes(elsewhere)) return portal(location ?? '');
  return ok('this network asks for no log-in page');
}

const portal = (location: string): Verdict =>
  fail(
    `this network asks for a log-in page first${location === '' ? '' : ` (${plain(location).slice(0, 120)})`}`,
    'log in with a browser; where a tunnel is held, after vpnd down',
  );

/** The answer's head, or undefined when nobody speaks HTTP there: the usual case, and a good one. */
function ask(host: string, port: number): Promise<IncomingMessage | undefined> {
  return new Promise((resolve) => {
    const request = get({ host, port, path: '/', agent: false, signal: AbortSignal.timeout(PATIENCE) });
    request.once('response', (response) => {
      resolve(response);
      response.destroy();
    });
    request.on('error', () => resolve(undefined));
  });
}

/** Undefined for a place on the same host. */
function hostOf(location: string): string | undefined {
  try {
    return new URL(location).hostname.replace(/^\[|\]$/g, '');
  } catch {
    return undefined;
  }
}
