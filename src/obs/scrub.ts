import { isIP } from 'node:net';
import { familyOf, parseIp } from '../model/address.js';
import { shortId } from '../model/ids.js';

/** What a text may still say about addresses: nothing, the network they are in, or all. */
export type AddressDetail = 'none' | 'network' | 'whole';

/**
 * Free text (messages of exceptions, what a tool wrote to stderr) without what must never be in a log: PEM private
 * keys, join tokens, and keys of 32 bytes or more in base64 or hexadecimal, of which a beginning too short to use stays so that
 * lines can be told apart. Peer ids (base32), session and command ids (16 bytes) are public and stay.
 */
export function scrubSecrets(text: string): string {
  return (
    text
      .replace(/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g, '[private key]')
      .replace(/vpnd1[a-z2-7]{24,}/gi, '[token]')
      // Padded from 32 bytes on (WireGuard's), and unpadded ones of 66 bytes or more (ML-KEM's), which no path looks like.
      .replace(/[A-Za-z0-9+/]{42,}={1,2}|[A-Za-z0-9+/]{88,}/g, (key) => `${key.slice(0, 6)}…`)
      .replace(/[0-9a-fA-F]{64,}/g, (key) => `${key.slice(0, 8)}…`)
  );
}

// Wide on purpose; what it finds is an address only when the parser says so.
const V4 = String.raw`\d{1,3}(?:\.\d{1,3}){3}`;
const ADDRESS_LIKE = new RegExp(
  String.raw`(?<![\w:.])(?:${V4}|[0-9a-fA-F:]*:${V4}|(?=[0-9a-fA-F]*:)[0-9a-fA-F:]+)(?!\w)`,
  'g',
);

/** What a text may still say about who is who: nothing (where it is a session), a beginning, or all. */
export interface IdDetail {
  readonly peers: 'short' | 'whole';
  readonly sessions: 'none' | 'short' | 'whole';
}

/** Peer ids (52 characters of base32) and the ids of sessions and commands (32 hexadecimal digits), cut down to `detail`. */
export function scrubIds(text: string, { peers, sessions }: IdDetail): string {
  const fewerPeers = peers === 'whole' ? text : text.replace(/\b[a-z2-7]{52}\b/g, shortId);
  if (sessions === 'whole') return fewerPeers;
  return fewerPeers.replace(/\b[0-9a-f]{32}\b/g, (id) => (sessions === 'none' ? '[id]' : shortId(id)));
}

/** Addresses in a text, cut down to `detail`. Loopback and unspecified addresses name nobody and stay. */
export function scrubAddresses(text: string, detail: AddressDetail): string {
  if (detail === 'whole') return text;
  return text.replace(ADDRESS_LIKE, (found) => {
    // "2001:db8::1:" at the end of a clause: the last colon belongs to the sentence.
    const trailing = isIP(found) === 0 && found.endsWith(':') ? ':' : '';
    const candidate = trailing === '' ? found : found.slice(0, -1);
    if (isIP(candidate) === 0 || namesNobody(candidate)) return found;
    return (detail === 'none' ? '[address]' : networkOf(candidate)) + trailing;
  });
}

/** The /24 or /48 an address is in, `203.0.113.0/24`; `[address]` for what is none. */
export function networkOf(address: string): string {
  const parsed = parseIp(address);
  if (!parsed.ok) return '[address]';
  if (familyOf(parsed.value) === 4) return `${parsed.value.split('.').slice(0, 3).join('.')}.0/24`;
  const groups = expand(parsed.value).slice(0, 3);
  while (groups.length > 0 && groups.at(-1) === '0') groups.pop();
  return `${groups.join(':')}::/48`;
}

function namesNobody(address: string): boolean {
  return address.startsWith('127.') || address === '0.0.0.0' || address === '::' || address === '::1';
}

/** The eight groups of an IPv6 address in RFC 5952 text. */
function expand(address: string): string[] {
  const [left = '', right = ''] = address.split('::');
  const head = left === '' ? [] : left.split(':');
  const tail = right === '' ? [] : right.split(':');
  return [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => '0'), ...tail];
}
