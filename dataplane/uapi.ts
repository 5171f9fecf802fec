import { connect } from 'node:net';
import { fromHex, toBase64, toHex } from '../src/model/bytes.js';
import { VpndError } from '../src/model/errors.js';
import {
  type WireGuardPrivateKey,
  type WireGuardPublicKey,
  wireGuardKeyBytes,
  wireGuardPublicKeyOf,
} from '../src/model/keys.js';
import { type Instant, instantOf, type Millis, seconds } from '../src/model/time.js';
import {
  type DeviceChange,
  type DeviceState,
  type PeerChange,
  type PeerState,
  readCidr,
  readCount,
  readEndpoint,
  strange,
  writeEndpoint,
} from './wireguard-state.js';

/**
 * The cross-platform configuration protocol of userspace WireGuard (https://www.wireguard.com/xplatform/): lines of
 * `key=value`, an empty line at the end of a request and of its answer, keys in hexadecimal.
 */
const SOCKET_DIRECTORY = '/var/run/wireguard';
const TIMEOUT: Millis = seconds(5);
/** EADDRINUSE, as the engine answers it. */
const PORT_IN_USE = -98;
const WHAT = 'the WireGuard device';

export const uapiSocketOf = (device: string): string => `${SOCKET_DIRECTORY}/${device}.sock`;

export async function uapiRead(device: string): Promise<DeviceState> {
  return parseUapi(await uapiCall(device, 'get=1\n\n'));
}

export async function uapiWrite(device: string, change: DeviceChange): Promise<void> {
  parseUapi(await uapiCall(device, renderUapi(change)));
}

/** Removals come first, so that an allowed IP can move from a peer that goes to one that comes. */
export function renderUapi(change: DeviceChange): string {
  const lines = ['set=1'];
  if (change.privateKey !== undefined) lines.push(`private_key=${hexOf(change.privateKey)}`);
  if (change.listenPort !== undefined) lines.push(`listen_port=${change.listenPort}`);
  if (change.mark !== undefined) lines.push(`fwmark=${change.mark}`);
  for (const key of change.remove) lines.push(`public_key=${hexOf(key)}`, 'remove=true');
  for (const peer of change.put) lines.push(...peerLines(peer));
  return `${lines.join('\n')}\n\n`;
}

function peerLines(peer: PeerChange): string[] {
  const lines = [`public_key=${hexOf(peer.publicKey)}`];
  if (!peer.fresh) lines.push('update_only=true');
  if (peer.presharedKey !== undefined) {
    lines.push(
      `preshared_key=${peer.presharedKey === null ? '0'.repeat(64) : hexOf(peer.presharedKey as WireGuardPublicKey)}`,
    );
  }
  if (peer.allowedIps !== undefined) {
    lines.push('replace_allowed_ips=true', ...peer.allowedIps.map((network) => `allowed_ip=${network}`));
  }
  if (peer.endpoint !== undefined) lines.push(`endpoint=${writeEndpoint(peer.endpoint)}`);
  if (peer.punch) lines.push('persistent_keepalive_interval=0');
  // Last: the engine sends the first keepalive as soon as it reads this, and needs the endpoint for it.
  if (peer.keepalive !== undefined) lines.push(`persistent_keepalive_interval=${peer.keepalive}`);
  return lines;
}

/** Throws VpndError `dataplane` for a refusal (`errno` other than 0) and for anything that is not the protocol. */
export function parseUapi(text: string): DeviceState {
  let privateKey: WireGuardPrivateKey | undefined;
  let listenPort = 0;
  let mark = 0;
  let errno: string | undefined;
  const peers = new Map<WireGuardPublicKey, PeerState>();
  let peer: Draft | undefined;
  const finish = () => {
    if (peer !== undefined) peers.set(peer.publicKey, settle(peer));
  };
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const at = line.indexOf('=');
    if (at < 1) throw strange(WHAT, line);
    const [key, value] = [line.slice(0, at), line.slice(at + 1)];
    if (key === 'errno') errno = value;
    else if (key === 'public_key') {
      finish();
      peer = { publicKey: keyFrom(value), allowedIps: [], seconds: 0, nanos: 0, rxBytes: 0, txBytes: 0, keepalive: 0 };
    } else if (peer === undefined) {
      if (key === 'private_key') privateKey = keyFrom(value) as string as WireGuardPrivateKey;
      else if (key === 'listen_port') listenPort = readCount(value, WHAT);
      else if (key === 'fwmark') mark = readCount(value, WHAT);
      else throw strange(WHAT, line);
    } else readPeerLine(peer, key, value);
  }
  finish();
  if (errno === undefined) throw new VpndError('dataplane', `${WHAT} ended its answer early`, { retryable: true });
  if (errno === String(PORT_IN_USE))
    throw new VpndError('port-in-use', 'the WireGuard port is in use by another program');
  if (errno !== '0') throw new VpndError('dataplane', `${WHAT} refused the configuration: errno ${errno}`);
  return { privateKey, listenPort, mark, peers };
}

interface Draft {
  readonly publicKey: WireGuardPublicKey;
  readonly allowedIps: PeerState['allowedIps'][number][];
  presharedKey?: string;
  endpoint?: PeerState['endpoint'];
  seconds: number;
  nanos: number;
  rxBytes: number;
  txBytes: number;
  keepalive: number;
}

function readPeerLine(peer: Draft, key: string, value: string): void {
  switch (key) {
    case 'preshared_key':
      if (!/^0{64}$/.test(value)) peer.presharedKey = keyFrom(value);
      return;
    case 'endpoint':
      peer.endpoint = readEndpoint(value, WHAT);
      return;
    case 'allowed_ip':
      peer.allowedIps.push(readCidr(value, WHAT));
      return;
    case 'last_handshake_time_sec':
      peer.seconds = readCount(value, WHAT);
      return;
    case 'last_handshake_time_nsec':
      peer.nanos = readCount(value, WHAT);
      return;
    case 'rx_bytes':
      peer.rxBytes = readCount(value, WHAT);
      return;
    case 'tx_bytes':
      peer.txBytes = readCount(value, WHAT);
      return;
    case 'persistent_keepalive_interval':
      peer.keepalive = readCount(value, WHAT);
      return;
    case 'protocol_version':
      return;
    default:
      throw strange(WHAT, key);
  }
}

function settle(draft: Draft): PeerState {
  const at = draft.seconds * 1000 + Math.floor(draft.nanos / 1e6);
  const lastHandshake: Instant | undefined = at === 0 ? undefined : instantOf(at);
  return {
    publicKey: draft.publicKey,
    presharedKey: draft.presharedKey,
    endpoint: draft.endpoint,
    allowedIps: draft.allowedIps,
    keepalive: draft.keepalive,
    lastHandshake,
    rxBytes: draft.rxBytes,
    txBytes: draft.txBytes,
  };
}

function keyFrom(hex: string): WireGuardPublicKey {
  const bytes = fromHex(hex);
  const parsed = bytes === undefined ? undefined : wireGuardPublicKeyOf(bytes);
  if (parsed === undefined || !parsed.ok || toBase64(bytes as Uint8Array) === '') throw strange(WHAT, 'key');
  return parsed.value;
}

const hexOf = (key: WireGuardPublicKey | WireGuardPrivateKey): string => toHex(wireGuardKeyBytes(key));

function uapiCall(device: string, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(uapiSocketOf(device));
    const chunks: Buffer[] = [];
    const fail = (why: string, cause?: unknown) => {
      clearTimeout(timer);
      socket.destroy();
      reject(new VpndError('dataplane', `wireguard-go of ${device} ${why}`, { cause, retryable: true }));
    };
    const timer = setTimeout(() => fail(`does not answer within ${TIMEOUT / 1000} s`), TIMEOUT);
    const done = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(Buffer.concat(chunks).toString('utf8'));
    };
    socket.on('connect', () => socket.write(request));
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      // The server keeps the connection open for the next request: an empty line ends the answer.
      const tail = Buffer.concat(chunks.slice(-2)).subarray(-2);
      if (tail.toString('latin1') === '\n\n') done();
    });
    socket.on('end', done);
    socket.on('error', (cause) => fail(`cannot be reached: ${cause.message}`, cause));
  });
}
