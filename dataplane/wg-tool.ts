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
/** 32 zero bytes: how WireGuard writes "no pre-shared key". */
const NO_KEY = `${'A'.repeat(43)}=`;
/** Peers removed or moved by one call: they stand in arguments, of which the kernel takes 128 KiB at once with ease. */
const PEERS_AT_ONCE = 500;

export async function wgRead(runner: Runner, device: string): Promise<DeviceState> {
  return parseDump(await runner.run('wg', ['show', device, 'dump']));
}

/**
 * One call for everything put with secrets or allowed IPs, and one per 500 peers removed, or moved to another endpoint
 * with nothing else: those must not be named to `addconf`, which takes their allowed IPs away for a moment in which
 * packets have no peer. Nor must a peer that carries packets while its pre-shared key changes: one call each. A
 * configuration, or such a key, goes in on standard input.
 */
export async function wgWrite(runner: Runner, device: string, change: DeviceChange, state: DeviceState): Promise<void> {
  for (const keys of slices(change.remove)) {
    await runner.run('wg', ['set', device, ...keys.flatMap((key) => ['peer', key, 'remove'])]);
  }
  const text = renderConf({ ...change, put: change.put.filter((peer) => !keepsNetworks(peer)) }, state);
  if (text !== '') await runner.run('wg', ['addconf', device, STDIN], { input: text });
  for (const moves of slices(change.put.filter(onlyMoves))) {
    await runner.run('wg', ['set', device, ...moves.flatMap(moveArguments)]);
  }
  for (const peer of change.put) {
    if (!keepsNetworks(peer) || peer.presharedKey === undefined) continue;
    const [name, key, ...rest] = moveArguments(peer);
    const words = ['set', device, name ?? '', key ?? '', 'preshared-key', STDIN, ...rest];
    await runner.run('wg', words, { input: `${peer.presharedKey ?? NO_KEY}\n` });
  }
}

function slices<T>(list: readonly T[]): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(list.length / PEERS_AT_ONCE) }, (_, i) =>
    list.slice(i * PEERS_AT_ONCE, (i + 1) * PEERS_AT_ONCE),
  );
}

const keepsNetworks = (peer: PeerChange): boolean => !peer.fresh && peer.allowedIps === undefined;
const onlyMoves = (peer: PeerChange): boolean => keepsNetworks(peer) && peer.presharedKey === undefined;

/** `peer <key> …` of `wg set`: nothing secret in it. */
export function moveArguments({ publicKey, endpoint, keepalive, punch }: PeerChange): readonly string[] {
  const name = ['peer', publicKey];
  return [
    ...(punch ? [...name, 'persistent-keepalive', 'off'] : []),
    ...name,
    ...(endpoint === undefined ? [] : ['endpoint', writeEndpoint(endpoint)]),
    ...(keepalive === undefined ? [] : ['persistent-keepalive', keepalive === 0 ? 'off' : String(keepalive)]),
  ];
}

/**
 * wg's own configuration format. `addconf` replaces the allowed IPs of every peer it names, so they are always written,
 * from the device's state where they stay; what is not written stays as it is.
 */
export function renderConf(change: DeviceChange, state: Pick<DeviceState, 'peers'>): string {
  const lines: string[] = [];
  if (change.privateKey !== undefined || change.listenPort !== undefined || change.mark !== undefined) {
    lines.push('[Interface]');
    if (change.mark !== undefined) lines.push(`FwMark = ${change.mark === 0 ? 'off' : change.mark}`);
    if (change.privateKey !== undefined) lines.push(`PrivateKey = ${change.privateKey}`);
    if (change.listenPort !== undefined) lines.push(`ListenPort = ${change.listenPort}`);
  }
  for (const peer of change.put) lines.push(...peerLines(peer, state.peers.get(peer.publicKey)));
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

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
  const [key, , port, mark] = head as [string, string, string, string];
  const peers = new Map<WireGuardPublicKey, PeerState>();
  for (const line of rest) {
    const peer = parsePeer(line.split('\t'));
    peers.set(peer.publicKey, peer);
  }
  return {
    privateKey: key === '(none)' ? undefined : privateKeyFrom(key),
    listenPort: listenPortFrom(port),
    mark: markFrom(mark),
    peers,
  };
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

/** `off` or `0x51820`. */
function markFrom(text: string): number {
  if (text === 'off') return 0;
  if (!/^0x[0-9a-f]{1,8}$/.test(text)) throw strange(WHAT, 'fwmark');
  return Number(text);
}

function listenPortFrom(text: string): number {
  const number = readCount(text, WHAT);
  if (number !== 0 && !parsePort(number).ok) throw strange(WHAT, 'port');
  return number;
}
