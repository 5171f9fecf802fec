import type { Clock } from '../core/ports/clock.js';
import type { Log } from '../core/ports/log.js';
import type { Network } from '../core/ports/network.js';
import type { Random } from '../core/ports/random.js';
import { formatHostPort, type HostPort, type IpAddress, parseIp } from '../model/address.js';
import { VpndError } from '../model/errors.js';
import { type Millis, ms } from '../model/time.js';
import { KEEPALIVE } from './grpc/options.js';
import { MemoryHost } from './memory/host.js';
import type { Link } from './memory/link.js';

export interface MemoryInternetOptions {
  readonly clock: Clock;
  /** Challenges and source ports. */
  readonly random: Random;
  /** One way; 5 ms where not given. */
  readonly latency?: (from: IpAddress, to: IpAddress) => Millis;
  /** Extra delays of the copies of a control message that arrive; `[]` loses it, undefined leaves it alone. */
  readonly meddle?: (from: IpAddress, to: IpAddress) => readonly Millis[] | undefined;
}

export interface HostOptions {
  /** The host's own clock, if it goes wrong. */
  readonly clock?: Clock;
  readonly log?: Log;
}

/** Silence after which both ends of a connection give it up, as HTTP/2 keepalive does. */
export const SILENCE: Millis = ms(KEEPALIVE.every + KEEPALIVE.patience);

/**
 * The in-memory twin of the gRPC network, for tests and simulations: many hosts in one process, all time from one clock.
 * Messages pass through the wire codec both ways, so nothing that could not travel slips through.
 */
export class MemoryInternet {
  readonly clock: Clock;
  readonly random: Random;
  readonly #options: MemoryInternetOptions;
  readonly #hosts = new Map<IpAddress, MemoryHost>();
  readonly #names = new Map<string, IpAddress>();
  readonly #cuts = new Set<string>();
  readonly #isolated = new Set<IpAddress>();
  readonly #links = new Set<Link>();

  constructor(options: MemoryInternetOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.random = options.random;
  }

  /** The network as a process on the machine with these addresses sees it; after `kill`, a new process there. */
  host(ips: IpAddress | readonly IpAddress[], options: HostOptions = {}): Network {
    const addresses = typeof ips === 'string' ? [ips] : ips;
    const host = new MemoryHost(this, addresses, { clock: options.clock ?? this.clock, log: options.log ?? SILENT });
    for (const ip of addresses) {
      if (this.#hosts.get(ip)?.alive) throw new Error(`${ip} has a process already; kill it first`);
      this.#hosts.set(ip, host);
    }
    return host;
  }

  /** Lets a name be dialled. */
  name(name: string, ip: IpAddress): void {
    this.#names.set(name, ip);
  }

  /** Nothing gets from one to the other, either way; connections break after SILENCE if it lasts. */
  partition(a: IpAddress, b: IpAddress): void {
    this.#cuts.add(pair(a, b));
    this.#changed();
  }

  heal(a: IpAddress, b: IpAddress): void {
    this.#cuts.delete(pair(a, b));
    this.#changed();
  }

  /** Nothing gets to or from this address. */
  isolate(ip: IpAddress): void {
    this.#isolated.add(ip);
    this.#changed();
  }

  rejoin(ip: IpAddress): void {
    this.#isolated.delete(ip);
    this.#changed();
  }

  /** Connections between the two break at once, on both sides. */
  reset(a: IpAddress, b: IpAddress): void {
    for (const link of [...this.#links])
      if (pair(link.ends.client.ip, link.ends.server.ip) === pair(a, b)) link.break();
  }

  /**
   * The process at this address dies: nothing of it is called any more, its port is free. Others see a reset; with
   * `power-off` they see silence.
   */
  kill(ip: IpAddress, how: 'process' | 'power-off' = 'process'): void {
    const host = this.#hosts.get(ip);
    if (host === undefined) return;
    host.die();
    for (const link of [...this.#links]) {
      const end = host.has(link.ends.client.ip) ? 'client' : host.has(link.ends.server.ip) ? 'server' : undefined;
      if (end === undefined) continue;
      link.abandon(end, how === 'process');
      if (how === 'power-off') link.pathChanged(false, SILENCE);
    }
  }

  /** Of hosts: how long one way takes. */
  latency(from: IpAddress, to: IpAddress): Millis {
    return this.#options.latency?.(from, to) ?? ms(5);
  }

  meddle(from: IpAddress, to: IpAddress): readonly Millis[] | undefined {
    return this.#options.meddle?.(from, to);
  }

  open(a: IpAddress, b: IpAddress): boolean {
    return !this.#isolated.has(a) && !this.#isolated.has(b) && !this.#cuts.has(pair(a, b));
  }

  at(ip: IpAddress): MemoryHost | undefined {
    const host = this.#hosts.get(ip);
    return host?.alive ? host : undefined;
  }

  /** Throws VpndError `unreachable`. */
  resolve(address: HostPort): IpAddress {
    const ip = parseIp(address.host);
    const found = ip.ok ? ip.value : this.#names.get(address.host);
    if (found === undefined)
      throw new VpndError('unreachable', `${formatHostPort(address)}: the name does not resolve`, { retryable: true });
    return found;
  }

  opened(link: Link): void {
    this.#links.add(link);
    const { client, server } = link.ends;
    if (!this.open(client.ip, server.ip)) link.pathChanged(false, SILENCE);
  }

  closed(link: Link): void {
    this.#links.delete(link);
  }

  #changed(): void {
    for (const link of [...this.#links]) {
      const { client, server } = link.ends;
      const open = this.open(client.ip, server.ip);
      if (open !== link.open) link.pathChanged(open, SILENCE);
    }
  }
}

const pair = (a: IpAddress, b: IpAddress): string => (a < b ? `${a} ${b}` : `${b} ${a}`);

const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT };
