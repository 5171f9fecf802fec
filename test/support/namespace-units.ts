import { createPrivateKey, createPublicKey } from 'node:crypto';
import type { Cidr, Endpoint, IpAddress, Port } from '../../src/model/address.js';
import type {
  DeviceUnit,
  EgressUnit,
  FullTunnelUnit,
  InterfaceName,
  KillSwitchUnit,
  PeerUnit,
  RelayUnit,
  ShaperUnit,
} from '../../src/model/dataplane.js';
import type { SessionId } from '../../src/model/ids.js';
import type { WireGuardKeyPair, WireGuardPrivateKey, WireGuardPublicKey } from '../../src/model/keys.js';

/** Units for tests, with everything that a case does not care about filled in. */

/** PKCS#8 of an X25519 key, up to the 32 bytes of the key itself (RFC 8410). */
const PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex');

/** The n-th of a row of key pairs that is the same every time. */
export function keyPair(n: number): WireGuardKeyPair {
  const secret = Buffer.alloc(32, n);
  secret.writeUInt32BE(n, 8);
  // As WireGuard clamps it, so that a device shows the key that was set.
  secret[0] = (secret[0] as number) & 248;
  secret[31] = ((secret[31] as number) & 127) | 64;
  const key = createPrivateKey({ key: Buffer.concat([PKCS8, secret]), format: 'der', type: 'pkcs8' });
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
  return {
    privateKey: secret.toString('base64') as WireGuardPrivateKey,
    publicKey: spki.subarray(-32).toString('base64') as WireGuardPublicKey,
  };
}

export const ip = (text: string): IpAddress => text as IpAddress;
export const port = (n: number): Port => n as Port;
export const at = (address: string, n: number): Endpoint => ({ ip: ip(address), port: port(n) });
export const name = (text: string): InterfaceName => text as InterfaceName;
export const cidrs = (...list: readonly string[]): readonly Cidr[] => list as readonly Cidr[];

export const device = (text: string, more: Partial<DeviceUnit> = {}): DeviceUnit => ({
  kind: 'device',
  name: name(text),
  privateKey: keyPair(1).privateKey,
  listenPort: undefined,
  mtu: 1420,
  addresses: cidrs('10.200.0.1/13', 'fd7a:7670:6e64::1/48'),
  ...more,
});

export const peer = (on: string, n: number, more: Partial<PeerUnit> = {}): PeerUnit => ({
  kind: 'peer',
  device: name(on),
  publicKey: keyPair(n).publicKey,
  presharedKey: undefined,
  allowedIps: cidrs(`10.200.0.${n % 250}/32`),
  endpoint: undefined,
  keepalive: 0,
  ...more,
});

export const relay = (n: number, more: Partial<RelayUnit> = {}): RelayUnit => ({
  kind: 'relay',
  session: '00112233445566778899aabbccddeeff' as SessionId,
  port: port(n),
  localIp: ip('198.51.100.1'),
  vouched: [ip('198.51.100.20')],
  next: { kind: 'hop', endpoint: at('198.51.100.2', 41_001) },
  ...more,
});

export const egress = (on: string, more: Partial<EgressUnit> = {}): EgressUnit => ({
  kind: 'egress',
  device: name(on),
  sources: cidrs('10.200.0.0/13', 'fd7a:7670:6e64::/48'),
  ipv6: true,
  gateways: [ip('10.200.0.1'), ip('fd7a:7670:6e64::1')],
  forbidden: [],
  forbidOnLink: true,
  limits: { newPerSession: 0, newInAll: 0, openPerSession: 0 },
  ...more,
});

export const shaper = (on: string, more: Partial<ShaperUnit> = {}): ShaperUnit => ({
  kind: 'shaper',
  device: name(on),
  rate: 10_000_000,
  sessionRate: 0,
  ...more,
});

export const killSwitch = (more: Partial<KillSwitchUnit> = {}): KillSwitchUnit => ({
  kind: 'kill-switch',
  devices: ['wg-client', 'wg-client-1', 'wg-client-2'].map(name),
  endpoints: [at('198.51.100.1', 40_001)],
  own: [{ protocol: 'tcp', endpoint: at('198.51.100.1', 443) }],
  lan: false,
  exclude: [],
  persist: false,
  ...more,
});

export const fullTunnel = (on: string, more: Partial<FullTunnelUnit> = {}): FullTunnelUnit => ({
  kind: 'full-tunnel',
  device: name(on),
  use: 'active',
  table: 51_820,
  sources: [ip('10.200.0.2'), ip('fd7a:7670:6e64::2')],
  exempt: [{ protocol: 'udp', endpoint: at('198.51.100.1', 40_001) }],
  ipv6: 'tunnel',
  pin: undefined,
  ...more,
});
