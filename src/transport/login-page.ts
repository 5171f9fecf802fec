import { get, type IncomingMessage } from 'node:http';
import type { LoginPage } from '../core/ports/login-page.js';
import type { IpAddress } from '../model/address.js';
import { type Millis, seconds } from '../model/time.js';

const PATIENCE: Millis = seconds(3);
const HTTP = 80;
/** RFC 6585, 6: the network itself answers, and wants a log-in. */
const LOGIN_NEEDED = 511;

/** A FindLoginPage; one that wants a log-in answers in the place of whoever was asked, and leads elsewhere. */
export async function findLoginPage(
  at: IpAddress,
  names: readonly string[],
  port = HTTP,
): Promise<LoginPage | undefined> {
  const answer = await ask(at, port);
  if (answer?.statusCode === LOGIN_NEEDED) return { url: undefined };
  const location = answer?.headers.location;
  const leadsTo = location === undefined ? undefined : hostOf(location);
  return leadsTo === undefined || [at, ...names].includes(leadsTo) ? undefined : { url: location };
}

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
