import { parsePort } from '../src/model/address.js';
import {
  parseWireGuardPrivateKey,
  parseWireGuardPublicKey,
  type WireGuardPrivateKey,
  type WireGuardPublicKey,
} from '../src/model/keys.js';
import { instantOf } from '../src/model/time.js';
import type { Runner } from './run.js';
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

/** Kernel devices, through `wg` of wireguard-tools. */
const WHAT = 'wg';
/** Standard input by a name that is always there; /dev/stdin is a link that not every container has. */
const STDIN = '/proc/self/fd/0';
/** Peers removed by one call: their keys stand in arguments, of which the kernel takes 128 KiB at once with ease. */
const REMOVALS_AT_ONCE = 500;

export async function wgRead(runner: Runner, device: string): Promise<DeviceState> {
  return parseDump(await runner.run('wg', ['show', device, 'dump']));
}

/** One call for everything put, and one per 500 peers removed. The configuration goes in on standard input. */
export async function wgWrite(runner: Runner, device: string, change: DeviceChange, state: DeviceState): Promise<void> {
  for (let at = 0; at < change.remove.length; at += REMOVALS_AT_ONCE) {
    const keys = change.remove.slice(at, at + REMOVALS_AT_ONCE);
    await runner.run('wg', ['set', device, ...keys.flatMap((key) => ['peer', key, 'remove'])]);
  }
  const text = renderConf(change, state);
  if (text !== '') await runner.run('wg', ['addconf', device, STDIN], { input: text });
}

/**
 * wg's own configuration format. `addconf` replaces the allowed IPs of every peer it names, so they are always written,
 * from the device's state where they stay; what is not written stays as it is.
 */
export function renderConf(change: DeviceChange, state: Pick<DeviceState, 'peers'>): string {
  const lines: string[] = [];
  if (change.privateKey !== undefined || change.listenPort !== undefined) {
    lines.push('[Interface]');
    if (change.privateKey !== undefined) lines.push(`PrivateKey = ${change.privateKey}`);
    if (change.listenPort !== undefined) lines.push(`ListenPort = ${change.listenPort}`);
  }
  for (const peer of change.put) lines.push(...peerLines(peer, state.peers.get(peer.publicKey)));
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

/** 32 zero bytes: how WireGuard writes "no pre-shared key". */
const NO_KEY = `${'A'.repeat(43)}=`;

function peerLines(peer: PeerChange, state: PeerState | undefined): string[] {
  const networks = peer.allowedIps ?? state?.allowedIps ?? [];
  const allowed = networks.length > 0 ? [`AllowedIPs = ${networks.join(', ')}`] : [];
  const name = ['[Peer]', `PublicKey = ${peer.publicKey}`];
  const lines = [...(peer.punch ? [...name, ...allowed, 'PersistentKeepalive = off'] : []), ...name, ...allowed];
  if (peer.presharedKey !== undefined) lines.push(`PresharedKey = ${peer.presharedKey ?? NO_KEY}`);
  if (peer.endpoint !== undefined) lines.push(`Endpoint = ${writeEndpoint(peer.endpoint)}`);
  if (peer.keepalive !== undefined)
    lines.push(`PersistentKeepalive = ${peer.keepalive === 0 ? 'off' : peer.keepalive}`);
  return lines;
}

/** `wg show <device> dump`: tab-separated, the device first, then a line for each peer. */
export function parseDump(text: string): DeviceState {
  const [first, ...rest] = text.split('\n').filter((line) => line !== '');
  const head = first?.split('\t');
  if (head === undefined || head.length !== 4) throw strange(WHAT, 'device');
  const [key, , port] = head as [string, string, string, string];
  const peers = new Map<WireGuardPublicKey, PeerState>();
  for (const line of rest) {
    const peer = parsePeer(line.split('\t'));
    peers.set(peer.publicKey, peer);
  }
  return { privateKey: key === '(none)' ? undefined : privateKeyFrom(key), listenPort: listenPortFrom(port), peers };
}

function parsePeer(fields: readonly string[]): PeerState {
  if (fields.length !== 8) throw strange(WHAT, 'peer');
  const [key, psk, endpoint, networks, handshake, rx, tx, keepalive] = fields as readonly [
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  const publicKey = parseWireGuardPublicKey(key);
  if (!publicKey.ok) throw strange(WHAT, 'key');
  const at = readCount(handshake, WHAT);
  return {
    publicKey: publicKey.value,
    presharedKey: psk === '(none)' ? undefined : psk,
    endpoint: endpoint === '(none)' ? undefined : readEndpoint(endpoint, WHAT),
    allowedIps: networks === '(none)' ? [] : networks.split(',').map((network) => readCidr(network, WHAT)),
    keepalive: keepalive === 'off' ? 0 : readCount(keepalive, WHAT),
    lastHandshake: at === 0 ? undefined : instantOf(at * 1000),
    rxBytes: readCount(rx, WHAT),
    txBytes: readCount(tx, WHAT),
  };
}

function privateKeyFrom(text: string): WireGuardPrivateKey {
  const parsed = parseWireGuardPrivateKey(text);
  if (!parsed.ok) throw strange(WHAT, 'key');
  return parsed.value;
}

function listenPortFrom(text: string): number {
  const number = readCount(text, WHAT);
  if (number !== 0 && !parsePort(number).ok) throw strange(WHAT, 'port');
  return number;
}
