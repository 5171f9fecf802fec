import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { OverlayNode, OverlayRole } from '../../chaos/overlay/index.js';
import { cpuTime, memoryUse } from '../lib/process-cost.js';

/** What a daemon holds at one moment. */
export interface DaemonSample {
  readonly pid: number;
  /** Bytes. */
  readonly rss: number;
  readonly pss: number;
  readonly heap: number;
  /** Outside of the heap: buffers. */
  readonly external: number;
  readonly descriptors: number;
  readonly handles: number;
  /** Bytes of its state directory: databases and their logs, keys. */
  readonly disk: number;
  /** CPU seconds since it started, with the programs that it ran. */
  readonly cpu: number;
  /** User-space WireGuard beside it, all devices together: bytes resident, and descriptors. */
  readonly wireguardRss: number;
  readonly wireguardDescriptors: number;
}

/** What a host's kernel holds at one moment, each as a number of things. */
export interface KernelSample {
  /** Elements of nftables' sets and maps. */
  readonly elements: number;
  /** Rules and chains of nftables. */
  readonly nftRules: number;
  readonly wgPeers: number;
  /** Of both families, as the next ones. */
  readonly ipRules: number;
  readonly routes: number;
  readonly addresses: number;
  readonly links: number;
  readonly conntrack: number;
  /** TCP and UDP, those in TIME_WAIT not among them. */
  readonly sockets: number;
}

const METRICS_PORT: Readonly<Record<OverlayRole, number>> = { base: 9470, supernode: 9471, exit: 9472, client: 9473 };

/** Undefined for a daemon that does not run, or is about to end. */
export async function sampleDaemon(node: OverlayNode): Promise<DaemonSample | undefined> {
  try {
    if (!node.process.running) return undefined;
    const { pid } = node;
    const page = await metricsOf(node);
    const { rss, pss } = memoryUse(pid);
    const { own, children } = cpuTime(pid);
    const beside = node.host.pids().filter((one) => nameOf(one) === 'wireguard-go');
    return {
      pid,
      rss,
      pss,
      heap: page('nodejs_heap_size_used_bytes'),
      external: page('nodejs_external_memory_bytes'),
      descriptors: descriptorsOf(pid),
      handles: page('nodejs_active_handles_total'),
      disk: bytesBeneath(node.stateDir),
      cpu: own + children,
      wireguardRss: sum(beside.map((one) => memoryUse(one).rss)),
      wireguardDescriptors: sum(beside.map(descriptorsOf)),
    };
  } catch {
    // It is being killed, started, or stands still: the next look finds it.
    return undefined;
  }
}

/** Rejects where a program that lists something fails. */
export async function sampleKernel({ host }: OverlayNode): Promise<KernelSample> {
  const say = (...argv: readonly string[]) => host.exec(argv);
  const count = async (...argv: readonly string[]) => lines(await say(...argv));
  const [nft, peers, rules4, rules6, routes4, routes6, addresses, links, tracked, sockets] = await Promise.all([
    say('nft', '-j', 'list', 'ruleset'),
    // A device of user space may be going at this moment.
    host.run(['wg', 'show', 'all', 'allowed-ips']).then(({ stdout }) => lines(stdout)),
    count('ip', '-4', 'rule', 'show'),
    count('ip', '-6', 'rule', 'show'),
    count('ip', '-4', 'route', 'show', 'table', 'all'),
    count('ip', '-6', 'route', 'show', 'table', 'all'),
    count('ip', '-o', 'addr', 'show'),
    count('ip', '-o', 'link', 'show'),
    say('sysctl', '-n', 'net.netfilter.nf_conntrack_count').catch(() => '0'),
    say('cat', '/proc/net/sockstat', '/proc/net/sockstat6'),
  ]);
  const listed = JSON.parse(nft) as { readonly nftables: readonly Record<string, unknown>[] };
  return {
    elements: elementsIn(listed.nftables),
    nftRules: listed.nftables.filter((one) => 'rule' in one || 'chain' in one).length,
    wgPeers: peers,
    ipRules: rules4 + rules6,
    routes: routes4 + routes6,
    addresses,
    links,
    conntrack: Number(tracked),
    sockets: [...sockets.matchAll(/^(?:TCP|UDP)6?: inuse (\d+)/gm)].reduce((all, [, one]) => all + Number(one), 0),
  };
}

async function metricsOf(node: OverlayNode): Promise<(name: string) => number> {
  const url = `http://127.0.0.1:${METRICS_PORT[node.role]}/metrics`;
  const page = await node.host.exec(['curl', '-sS', '--max-time', '5', url]);
  return (name) => Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(page)?.[1] ?? Number.NaN);
}

function elementsIn(listed: readonly Record<string, unknown>[]): number {
  const size = (one: unknown): number => {
    const held = (one as { readonly elem?: unknown } | undefined)?.elem;
    return Array.isArray(held) ? held.length : 0;
  };
  return sum(listed.map((one) => size(one.set) + size(one.map)));
}

const lines = (text: string): number => text.split('\n').filter((line) => line.trim() !== '').length;
const sum = (values: readonly number[]): number => values.reduce((all, one) => all + one, 0);
const descriptorsOf = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

function bytesBeneath(directory: string): number {
  return sum(
    readdirSync(directory, { withFileTypes: true }).map((entry) => {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) return bytesBeneath(path);
      return entry.isFile() ? statSync(path).size : 0;
    }),
  );
}
