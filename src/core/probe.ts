import { type Endpoint, parseIp, parsePort } from '../model/address.js';
import { type Bytes, concat, signingInput, u64be, utf8 } from '../model/bytes.js';
import { KEY_LENGTH, keyOf, type PeerId, peerIdOf } from '../model/ids.js';

/**
 * The UDP reflector's datagrams. A question is never shorter than its answer, so the reflector amplifies nothing.
 *
 *   plain question  'VPNP' 1   nonce[16] zero[43]                                  64 bytes
 *   vouch           'VPNP' 2   nonce[16] counter[8] peer key[32] signature[64]    125 bytes
 *   answer          'VPNP' 129 nonce[16] family[1] address[16] port[2] zero[8]     48 bytes
 *
 * `address` is right-aligned; `counter` is u64be, grows, and counts once on a stream, for one address: a copy is refused. The signature is Ed25519 by the peer over "vpnd/probe/v1" and {probe token of the stream, nonce, counter}.
 */
const MAGIC = utf8('VPNP');
const NONCE_LENGTH = 16;
const QUESTION_LENGTH = 64;
const ANSWER_LENGTH = 48;
const VOUCH_LENGTH = 4 + 1 + NONCE_LENGTH + 8 + KEY_LENGTH + 64;

export type ProbeQuestion =
  | { readonly kind: 'plain'; readonly nonce: Bytes }
  | {
      readonly kind: 'vouch';
      readonly nonce: Bytes;
      readonly counter: number;
      readonly peer: PeerId;
      readonly signature: Bytes;
    };

export const probeRequest = (nonce: Bytes): Bytes =>
  concat(MAGIC, Uint8Array.of(1), nonce, new Uint8Array(QUESTION_LENGTH - 5 - NONCE_LENGTH));

export const vouchInput = (probeToken: Bytes, nonce: Bytes, counter: number): Bytes =>
  signingInput('vpnd/probe/v1', [probeToken, nonce, u64be(counter)]);

export const vouchRequest = (nonce: Bytes, counter: number, peer: PeerId, signature: Bytes): Bytes =>
  concat(MAGIC, Uint8Array.of(2), nonce, u64be(counter), keyOf(peer), signature);

/** Undefined for anything that is not a question: the reflector stays silent. */
export function parseProbeQuestion(datagram: Bytes): ProbeQuestion | undefined {
  if (!startsWithMagic(datagram)) return undefined;
  const nonce = datagram.slice(5, 5 + NONCE_LENGTH);
  if (datagram[4] === 1 && datagram.length === QUESTION_LENGTH) return { kind: 'plain', nonce };
  if (datagram[4] !== 2 || datagram.length !== VOUCH_LENGTH) return undefined;
  const peer = peerIdOf(datagram.slice(29, 29 + KEY_LENGTH));
  if (!peer.ok) return undefined;
  return {
    kind: 'vouch',
    nonce,
    counter: readU64(datagram, 21),
    peer: peer.value,
    signature: datagram.slice(29 + KEY_LENGTH),
  };
}

export function probeAnswer(nonce: Bytes, from: Endpoint): Bytes {
  const v4 = !from.ip.includes(':');
  const address = v4 ? concat(new Uint8Array(12), ipv4Bytes(from.ip)) : ipv6Bytes(from.ip);
  const port = Uint8Array.of(from.port >> 8, from.port & 255);
  return concat(MAGIC, Uint8Array.of(129), nonce, Uint8Array.of(v4 ? 4 : 6), address, port, new Uint8Array(8));
}

/** The sender's endpoint as the reflector saw it; undefined for anything but an answer to this nonce. */
export function parseProbeResponse(datagram: Bytes, nonce?: Bytes): Endpoint | undefined {
  if (!startsWithMagic(datagram) || datagram[4] !== 129 || datagram.length !== ANSWER_LENGTH) return undefined;
  if (nonce?.some((byte, i) => datagram[5 + i] !== byte)) return undefined;
  const family = datagram[21];
  const address = datagram.slice(22, 38);
  const text =
    family === 4
      ? address.slice(12).join('.')
      : Array.from({ length: 8 }, (_, i) =>
          (((address[2 * i] ?? 0) << 8) | (address[2 * i + 1] ?? 0)).toString(16),
        ).join(':');
  const ip = parseIp(text);
  const port = parsePort(((datagram[38] ?? 0) << 8) | (datagram[39] ?? 0));
  return ip.ok && port.ok ? { ip: ip.value, port: port.value } : undefined;
}

const startsWithMagic = (datagram: Bytes): boolean => MAGIC.every((byte, i) => datagram[i] === byte);

const readU64 = (bytes: Bytes, at: number): number => bytes.slice(at, at + 8).reduce((n, byte) => n * 256 + byte, 0);

const ipv4Bytes = (ip: string): Bytes => Uint8Array.from(ip.split('.'), Number);

function ipv6Bytes(ip: string): Bytes {
  const [head = '', tail] = ip.split('::');
  const words = (text: string) => (text === '' ? [] : text.split(':').map((word) => Number.parseInt(word, 16)));
  const front = words(head);
  const back = tail === undefined ? [] : words(tail);
  const all = [...front, ...new Array<number>(8 - front.length - back.length).fill(0), ...back];
  return Uint8Array.from(all.flatMap((word) => [word >> 8, word & 255]));
}
