import type { Endpoint, IpAddress } from '../../../src/model/address.js';
import type { Bytes } from '../../../src/model/bytes.js';
import type { WireGuardPublicKey } from '../../../src/model/keys.js';

/** A UDP datagram on its way between machines. */
export interface Datagram {
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly payload: Payload;
}

export type Payload = WireGuardMessage | { readonly kind: 'bytes'; readonly bytes: Bytes };

/** What WireGuard says to WireGuard. Nothing is encrypted here: a relay that looked inside would be found in its code. */
export type WireGuardMessage =
  | {
      readonly kind: 'initiation';
      /** Names the attempt in its response. */
      readonly attempt: number;
      readonly from: WireGuardPublicKey;
      readonly to: WireGuardPublicKey;
    }
  | {
      readonly kind: 'response';
      readonly attempt: number;
      /** Of the keys that both sides have from now on. */
      readonly keys: number;
      readonly from: WireGuardPublicKey;
      readonly to: WireGuardPublicKey;
      readonly presharedKey: string | undefined;
    }
  /** Without an inner packet it is a keepalive. */
  | { readonly kind: 'data'; readonly keys: number; readonly inner: Inner | undefined };

/** A packet inside a tunnel. */
export interface Inner {
  readonly kind: 'ping' | 'pong' | 'syn' | 'reset';
  /** Joins an answer to its question. */
  readonly id: number;
  readonly source: IpAddress;
  readonly destination: IpAddress;
}

export const INNER_BYTES = 128;

export const answerTo = (asked: Inner): Inner => ({
  kind: asked.kind === 'syn' ? 'reset' : 'pong',
  id: asked.id,
  source: asked.destination,
  destination: asked.source,
});

/** WireGuard's message types, and its shortest message: what carries datagrams may look at no more. */
const TYPE = { initiation: 1, response: 2, data: 4 } as const;
const HEADER = 4;
const SHORTEST = 32;

export function bytesOf(payload: Payload): Bytes {
  if (payload.kind === 'bytes') return payload.bytes;
  const inside = new TextEncoder().encode(JSON.stringify(payload).padEnd(SHORTEST - HEADER));
  return Uint8Array.of(TYPE[payload.kind], 0, 0, 0, ...inside);
}

/** What was WireGuard's is WireGuard's again after its way through a socket. */
export function payloadOf(bytes: Bytes): Payload {
  try {
    const parsed: unknown = JSON.parse(new TextDecoder().decode(bytes.subarray(HEADER)));
    if (isWireGuard(parsed)) return parsed;
  } catch {
    // Somebody else's datagram.
  }
  return { kind: 'bytes', bytes };
}

function isWireGuard(value: unknown): value is WireGuardMessage {
  if (typeof value !== 'object' || value === null || !('kind' in value)) return false;
  return value.kind === 'initiation' || value.kind === 'response' || value.kind === 'data';
}
