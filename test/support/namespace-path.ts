import { createLab, type Home, type Host, type Lab, type WebServer } from '../../chaos/lab/index.js';
import type { Endpoint } from '../../src/model/address.js';
import type { FullTunnelUnit, Unit } from '../../src/model/dataplane.js';
import { type HostedDataPlane, openOnHost } from './namespace-dataplane.js';
import { at, cidrs, device, egress, fullTunnel, ip, keyPair, peer } from './namespace-units.js';

/** Client and exit, each behind a home router, two supernodes and a web server. */
export interface World {
  readonly lab: Lab;
  readonly homes: { readonly client: Home; readonly exit: Home };
  readonly hosts: { readonly client: Host; readonly exit: Host; readonly a: Host; readonly b: Host };
  readonly planes: {
    readonly client: HostedDataPlane;
    readonly exit: HostedDataPlane;
    readonly a: HostedDataPlane;
    readonly b: HostedDataPlane;
  };
  readonly web: WebServer;
  close(): Promise<void>;
}

export const A = { ipv4: '198.51.100.1', ipv6: '2001:db8::1' };
export const B = { ipv4: '198.51.100.2', ipv6: '2001:db8::2' };
export const CLIENT_HOME = '198.51.100.20';
export const EXIT_HOME = '198.51.100.10';
/** The hosts' own addresses: IPv6 is routed to homes, not translated. */
export const CLIENT_IPV6 = '2001:db8:20::2';
export const EXIT_IPV6 = '2001:db8:10::2';
export const GATEWAY = '10.200.0.1';
export const INNER = { ipv4: '10.200.0.2', ipv6: 'fd7a:7670:6e64::2' };

const CLIENT_KEYS = keyPair(11);
const EXIT_KEYS = keyPair(12);

export async function buildWorld(): Promise<World> {
  const lab = await createLab();
  const [client, exit, a, b, web] = await Promise.all([
    lab.home('client', { nat: 'port-preserving', publicIpv4: CLIENT_HOME, ipv6: '2001:db8:20::/64' }),
    lab.home('exit', {
      nat: 'port-preserving',
      publicIpv4: EXIT_HOME,
      lan: '192.168.7.0/24',
      ipv6: '2001:db8:10::/64',
    }),
    lab.publicHost('a', A),
    lab.publicHost('b', B),
    lab.webServer('web', { ipv4: '198.51.100.80', ipv6: '2001:db8::80' }),
  ]);
  const hosts = { client: await client.host('laptop'), exit: await exit.host('box'), a, b };
  // As Debian's own default for some, and the strictest: the tunnel has to work with it.
  await hosts.client.sysctl('net.ipv4.conf.all.rp_filter=1');
  const [clientPlane, exitPlane, aPlane, bPlane] = await Promise.all([
    openOnHost(hosts.client, { owner: 'client', engine: 'auto' }),
    openOnHost(hosts.exit, { owner: 'exit', engine: 'auto' }),
    openOnHost(a, { owner: 'supernode', engine: 'auto' }),
    openOnHost(b, { owner: 'supernode', engine: 'auto' }),
  ]);
  return {
    lab,
    homes: { client, exit },
    hosts,
    planes: { client: clientPlane, exit: exitPlane, a: aPlane, b: bPlane },
    web,
    close: () => lab.close(),
  };
}

export function exitUnits(endpoint: Endpoint | undefined, ipv6 = true): readonly Unit[] {
  return [
    device('wg-exit', { privateKey: EXIT_KEYS.privateKey }),
    egress('wg-exit', { ipv6 }),
    peer('wg-exit', 0, {
      publicKey: CLIENT_KEYS.publicKey,
      presharedKey: keyPair(13).publicKey,
      allowedIps: cidrs(`${INNER.ipv4}/32`, `${INNER.ipv6}/128`),
      endpoint,
      keepalive: 25,
    }),
  ];
}

export function clientUnits(endpoint: Endpoint, more: Partial<FullTunnelUnit> = {}): readonly Unit[] {
  return [
    device('wg-client', {
      privateKey: CLIENT_KEYS.privateKey,
      addresses: cidrs(`${INNER.ipv4}/32`, `${INNER.ipv6}/128`),
    }),
    peer('wg-client', 0, {
      publicKey: EXIT_KEYS.publicKey,
      presharedKey: keyPair(13).publicKey,
      allowedIps: cidrs('0.0.0.0/0', '::/0'),
      endpoint,
      keepalive: 25,
    }),
    fullTunnel('wg-client', {
      sources: [ip(INNER.ipv4), ip(INNER.ipv6)],
      exempt: [
        { protocol: 'udp', endpoint },
        { protocol: 'tcp', endpoint: at(endpoint.ip, 443) },
      ],
      ...more,
    }),
  ];
}

/** How many of so many pings came back. */
export async function pings(from: Host, to: string, count: number, interval = 0.2): Promise<number> {
  const { stdout } = await from.run(['ping', '-n', '-i', String(interval), '-c', String(count), '-W', '1', to]);
  return Number(/, (\d+) received/.exec(stdout)?.[1] ?? 0);
}

/** Sends a ping every 0.2 s until one comes back, at most 50; answers with how many went unanswered before it. */
export async function pingsUntilHeard(from: Host, to: string): Promise<number> {
  for (let lost = 0; lost < 50; lost++) if ((await pings(from, to, 1)) === 1) return lost;
  throw new Error(`${to} does not answer`);
}
