import { isIP } from 'node:net';
import { familyOf, parseIp } from '../model/address.js';

/** What a text may still say about addresses: nothing, the network they are in, or all. */
export type AddressDetail = 'none' | 'network' | 'whole';

/**
 * Free text (messages of exceptions, what a tool wrote to stderr) without what must never be in a log: PEM private
 * keys, join tokens, and 32-byte keys in base64 or hexadecimal, of which a beginning too short to use stays so that
 * lines can be told apart. Peer ids (base32), session and command ids (16 bytes) are public and stay.
 */
export function scrubSecrets(text: string): string {
  return text
    .replace(/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g, '[private key]')
    .replace(/vpnd1[a-z2-7]{24,}/gi, '[token]')
    .replace(/[A-Za-z0-9+/]{43}=/g, (key) => `${key.slice(0, 6)}…`)
    .replace(/[0-9a-fA-F]{64,}/g, (key) => `${key.slice(0, 8)}…`);
}

// Wide on purpose; what it finds is an address only when the parser says so.
const V4 = String.raw`\d{1,3}(?:\.\d{1,3}){3}`;
const ADDRESS_LIKE = new RegExp(
  String.raw`(?<![\w:.])(?:${V4}|[0-9a-fA-F:]*:${V4}|(?=[0-9a-fA-F]*:)[0-9a-fA-F:]+)(?!\w)`,
  'g',
);

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
