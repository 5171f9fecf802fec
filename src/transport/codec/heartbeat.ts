import type { Bytes } from '../../model/bytes.js';
import type { ControlMessage, PingRequest, PongResponse } from '../../model/messages.js';

/**
 * Heartbeats as they travel, by hand: nine of ten messages of an idle stream are one of these few bytes. Whatever looks
 * any different is for the general codec, which gives the same for these (test/unit/codec.test.ts).
 *
 * ControlMessage: `ping_request` is field 3, `pong_response` field 4, both messages; their `id` is field 1, a varint, and
 * left out when it is 0 (proto3).
 */
const PING = (3 << 3) | 2;
const PONG = (4 << 3) | 2;
const ID = (1 << 3) | 0;
/** Of an id that a number holds exactly, with its tag. */
const MAX_BODY = 9;
const SEVEN_BITS = 0x7f;
const MORE = 0x80;

export const isHeartbeat = (message: ControlMessage): message is PingRequest | PongResponse =>
  message.kind === 'ping' || message.kind === 'pong';

/** Undefined for a ping with a load. */
export function encodeHeartbeat(message: PingRequest | PongResponse): Bytes | undefined {
  const { kind, id } = message;
  if (kind === 'ping' && message.load !== undefined) return undefined;
  if (!Number.isSafeInteger(id) || id < 0) return undefined;
  const body = id === 0 ? 0 : 1 + varintLength(id);
  const bytes = new Uint8Array(2 + body);
  bytes[0] = kind === 'ping' ? PING : PONG;
  bytes[1] = body;
  if (body === 0) return bytes;
  bytes[2] = ID;
  let rest = id;
  for (let at = 3; at < bytes.length; at++) {
    const isLast = at === bytes.length - 1;
    bytes[at] = isLast ? rest : (rest % MORE) | MORE;
    rest = Math.floor(rest / MORE);
  }
  return bytes;
}

/** Undefined for anything but a heartbeat in its shortest form. */
export function decodeHeartbeat(bytes: Bytes): PingRequest | PongResponse | undefined {
  const [tag, body, field] = bytes;
  if ((tag !== PING && tag !== PONG) || body !== bytes.length - 2 || body > MAX_BODY) return undefined;
  let id = 0;
  if (body > 0) {
    if (field !== ID || body === 1) return undefined;
    let factor = 1;
    for (let at = 3; at < bytes.length; at++) {
      const byte = bytes[at] ?? 0;
      const isLast = at === bytes.length - 1;
      if (byte >= MORE === isLast || (isLast && byte === 0)) return undefined;
      id += (byte & SEVEN_BITS) * factor;
      factor *= MORE;
    }
    if (!Number.isSafeInteger(id)) return undefined;
  }
  return tag === PING ? { kind: 'ping', id, load: undefined } : { kind: 'pong', id };
}

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest >= MORE; rest = Math.floor(rest / MORE)) length++;
  return length;
}
