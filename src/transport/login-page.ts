import { get } from 'node:http';
import { type LoginPage, NOBODY } from '../core/ports/login-page.js';
import { type Endpoint, familyOf, type IpAddress, type Port } from '../model/address.js';
import { type Millis, seconds } from '../model/time.js';

const PATIENCE: Millis = seconds(3);
const HTTP = 80 as Port;
/** RFC 6585, 6: the network itself answers, and wants a log-in. */
const LOGIN_NEEDED = 511;
/** Of an answer that is anybody's. Its body is not read at all. */
const MAX_HEADER_BYTES = 8 * 1024;
/** Longer ones are no use to a person. */
const MAX_URL = 300;

/** Where is asked, other than usual: for tests. */
export interface Places {
  /** At the supernode. */
  readonly port?: Port;
  readonly nobody?: Endpoint;
}

/** A FindLoginPage; a network that wants a log-in answers in the place of whoever was asked. */
export async function findLoginPage(
  at: IpAddress,
  names: readonly string[],
  { port = HTTP, nobody = NOBODY }: Places = {},
): Promise<LoginPage | undefined> {
  const [own, stranger] = await Promise.all([ask({ ip: at, port }), ask(nobody)]);
  // Any page at all: some answer with their log-in page itself.
  if (stranger !== undefined && (stranger.status < 400 || stranger.status === LOGIN_NEEDED)) {
    return { url: webAddress(stranger.location ?? '/', nobody) };
  }
  if (own?.status === LOGIN_NEEDED) return { url: undefined };
  const leadsTo = own?.location === undefined ? undefined : hostOf(own.location);
  return leadsTo === undefined || [at, ...names].includes(leadsTo)
    ? undefined
    : { url: webAddress(own?.location ?? '/', { ip: at, port }) };
}

interface Answer {
  readonly status: number;
  readonly location: string | undefined;
}

/** The answer's head, or undefined when nobody speaks HTTP there: the usual case, and a good one. */
function ask({ ip, port }: Endpoint): Promise<Answer | undefined> {
  return new Promise((resolve) => {
    const request = get({
      host: ip,
      port,
      path: '/',
      agent: false,
      maxHeaderSize: MAX_HEADER_BYTES,
      signal: AbortSignal.timeout(PATIENCE),
    });
    request.once('response', (response) => {
      resolve({ status: response.statusCode ?? 0, location: response.headers.location });
      response.destroy();
    });
    request.on('error', () => resolve(undefined));
    // Who answers that he goes on in another protocol (101) ends it without an answer or an error.
    request.once('close', () => resolve(undefined));
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

/** What people are told to open comes from whoever runs the network: an address of the web in plain text, or nothing. */
function webAddress(location: string, { ip, port }: Endpoint): string | undefined {
  const host = familyOf(ip) === 6 ? `[${ip}]` : ip;
  try {
    const { href, protocol, username, password } = new URL(location, `http://${host}:${port}/`);
    const isWeb = protocol === 'http:' || protocol === 'https:';
    const isPlain = href.length <= MAX_URL && /^[\x21-\x7e]+$/.test(href) && username === '' && password === '';
    return isWeb && isPlain ? href : undefined;
  } catch {
    return undefined;
  }
}
