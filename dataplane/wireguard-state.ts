import {
  type Cidr,
  type Endpoint,
  formatHostPort,
  parseCidr,
  parseEndpoint,
  sameEndpoint,
} from '../src/model/address.js';
import type { PeerUnit } from '../src/model/dataplane.js';
import { VpndError } from '../src/model/errors.js';
import type { WireGuardPrivateKey, WireGuardPublicKey } from '../src/model/keys.js';
import { type Instant, minutes, since } from '../src/model/time.js';

/** What a WireGuard device holds at present, whichever engine runs it. */
export interface DeviceState {
  /** Undefined while none has been set. */
  readonly privateKey: WireGuardPrivateKey | undefined;
  /** 0 before the device is up. */
  readonly listenPort: number;
  /** Firewall mark of what it sends; 0 for none. */
  readonly mark: number;
  readonly peers: ReadonlyMap<WireGuardPublicKey, PeerState>;
}

export interface PeerState {
  readonly publicKey: WireGuardPublicKey;
  readonly presharedKey: string | undefined;
  readonly endpoint: Endpoint | undefined;
  readonly allowedIps: readonly Cidr[];
  /** Seconds; 0 for none. */
  readonly keepalive: number;
  readonly lastHandshake: Instant | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
}

/** One write to a device: the fields that differ, and nothing else. */
export interface DeviceChange {
  readonly privateKey?: WireGuardPrivateKey;
  readonly listenPort?: number;
  readonly mark?: number;
  readonly remove: readonly WireGuardPublicKey[];
  readonly put: readonly PeerChange[];
}

export interface PeerChange {
  readonly publicKey: WireGuardPublicKey;
  /** Whether the device does not know this peer yet. */
  readonly fresh: boolean;
  /** All of them; undefined leaves them. */
  readonly allowedIps?: readonly Cidr[];
  /** Null clears it. */
  readonly presharedKey?: string | null;
  readonly endpoint?: Endpoint;
  readonly keepalive?: number;
  /**
   * Turn the keepalive off and on again: WireGuard then sends a packet at once. That is how a peer that was told
   * a new endpoint opens its NAT towards it, without waiting for traffic or for the next keepalive.
   */
  readonly punch?: true;
}

export const isEmptyChange = (change: DeviceChange): boolean =>
  change.privateKey === undefined &&
  change.listenPort === undefined &&
  change.mark === undefined &&
  change.put.length + change.remove.length === 0;

/** Beyond this WireGuard refuses to use a session's keys (REJECT_AFTER_TIME, WireGuard paper, section 6.1). */
const SESSION_LIFE = minutes(3);

/**
 * What has to be written so that a device's peer equals its unit; undefined where it does already. The endpoint counts
 * only when the unit's own changed since `before`, since WireGuard roams: with nothing remembered (after a restart), a
 * peer whose handshake is fresh keeps the endpoint it has.
 */
export function planPeer(
  unit: PeerUnit,
  state: PeerState | undefined,
  before: PeerUnit | undefined,
  now: Instant,
): PeerChange | undefined {
  if (state === undefined) {
    return {
      publicKey: unit.publicKey,
      fresh: true,
      allowedIps: unit.allowedIps,
      ...(unit.presharedKey === undefined ? {} : { presharedKey: unit.presharedKey }),
      ...(unit.endpoint === undefined ? {} : { endpoint: unit.endpoint }),
      ...(unit.keepalive === 0 ? {} : { keepalive: unit.keepalive }),
    };
  }
  const moves = unit.endpoint !== undefined && endpointMoves(unit.endpoint, state, before, now);
  const change: PeerChange = {
    publicKey: unit.publicKey,
    fresh: false,
    ...(sameNetworks(unit.allowedIps, state.allowedIps) ? {} : { allowedIps: unit.allowedIps }),
    ...(unit.presharedKey === state.presharedKey ? {} : { presharedKey: unit.presharedKey ?? null }),
    ...(moves && unit.endpoint !== undefined ? { endpoint: unit.endpoint } : {}),
    ...(moves && unit.keepalive > 0 ? { punch: true } : {}),
    ...(unit.keepalive !== state.keepalive || moves ? { keepalive: unit.keepalive } : {}),
  };
  return Object.keys(change).length > 2 ? change : undefined;
}

function endpointMoves(wanted: Endpoint, state: PeerState, before: PeerUnit | undefined, now: Instant): boolean {
  if (state.endpoint === undefined) return true;
  // An order counts even where the device shows this endpoint already: it may roam before this is written.
  if (before?.endpoint !== undefined) return !sameEndpoint(wanted, before.endpoint);
  if (before !== undefined) return !sameEndpoint(wanted, state.endpoint);
  const live = state.lastHandshake !== undefined && since(now, state.lastHandshake) < SESSION_LIFE;
  return !live && !sameEndpoint(wanted, state.endpoint);
}

function sameNetworks(a: readonly Cidr[], b: readonly Cidr[]): boolean {
  const seen = new Set(b);
  return new Set(a).size === seen.size && a.every((network) => seen.has(network));
}

/** Text of a device that does not say what it must: a version of the tool that this was not written for. */
export function strange(what: string, line: string): VpndError {
  // A line may hold a key: only its first word is repeated.
  return new VpndError('dataplane', `${what} answered something unknown: ${line.split(/[=\t ]/, 1)[0]?.slice(0, 32)}`);
}

export function readEndpoint(text: string, what: string): Endpoint {
  // A link-local endpoint carries a zone, which means nothing beyond this machine.
  const parsed = parseEndpoint(text.replace(/%[^\]]*\]/, ']'));
  if (!parsed.ok) throw strange(what, 'endpoint');
  return parsed.value;
}

export function readCidr(text: string, what: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed.ok) throw strange(what, 'allowed-ip');
  return parsed.value;
}

export function readCount(text: string, what: string): number {
  if (!/^\d{1,20}$/.test(text)) throw strange(what, 'number');
  return Number(text);
}

export const writeEndpoint = (endpoint: Endpoint): string => formatHostPort(endpoint);
