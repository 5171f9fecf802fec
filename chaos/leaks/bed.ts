import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Capture, ECHO_PORT, type Home, type Spawned } from '../lab/index.js';
import { activeSession, Fleet, isUp, type OverlayNode, standbySession, statusOf } from '../overlay/index.js';
import type { TrafficOptions } from './canary.js';
import { type Known, leaksIn } from './judge.js';

const PROGRAM = fileURLToPath(new URL('./traffic-program.js', import.meta.url));
const START_LIMIT_MS = 60_000;
const UP_LIMIT_MS = 60_000;
const OUTSIDE = 'eth0';
const INSIDE = 'lan0';
/** Traffic before and after. */
const AROUND_MS = 700;
/** As Fleet has it. */
const BASE_PORT = 7400;

/** What one run has shown. */
export interface Run {
  /** Frames that were looked at. */
  readonly frames: number;
  /** Numbered datagrams and questions that the traffic program had sent. */
  readonly sent: number;
  readonly leaks: readonly string[];
}

/** Three supernodes, two exits and one client in a network with IPv6, whose router records everything it is handed. */
export class LeakBed {
  #home: Home;
  readonly #known: Known;

  private constructor(
    readonly fleet: Fleet,
    /** Of all nodes, by their ids. */
    readonly names: ReadonlyMap<string, string>,
    private readonly otherHome: Home,
  ) {
    this.#home = fleet.home('c1');
    this.#known = {
      base: { ip: fleet.base.host.ipv4 ?? '', port: BASE_PORT },
      supernodes: new Set(fleet.supernodes.flatMap(({ host }) => [host.ipv4 ?? '', host.ipv6 ?? ''])),
      exits: new Set(fleet.exits.map(({ name }) => fleet.home(name).publicIpv4)),
    };
  }

  static async make(name = 'leaks'): Promise<LeakBed> {
    const fleet = await Fleet.start({
      lab: { name },
      supernodes: [
        { name: 'a', region: 'eu' },
        { name: 'b', region: 'us' },
        { name: 'd', region: 'eu' },
      ],
      exits: [
        // One with IPv6 and one without: the client must hold it back there.
        { name: 'x1', region: 'us', ipv6: true },
        { name: 'x2', region: 'us' },
      ],
      clients: [{ name: 'c1', region: 'eu', ipv6: true }],
    });
    try {
      const other = { nat: 'port-preserving', publicIpv4: '198.51.100.150', lan: '192.168.150.0/24' } as const;
      return new LeakBed(
        fleet,
        await fleet.names(),
        await fleet.lab.home('elsewhere', { ...other, ipv6: '2001:db8:150::/64' }),
      );
    } catch (cause) {
      await fleet.close();
      throw cause;
    }
  }

  get client(): OverlayNode {
    return this.fleet.node('c1');
  }

  /** Connected, with a standby where there is an exit for one. */
  async ready(): Promise<void> {
    const { api } = this.client;
    if (!isUp(activeSession(await api.status()))) await this.up();
    await statusOf(this.client, (status) => isUp(activeSession(status)) && isUp(standbySession(status)), UP_LIMIT_MS);
  }

  async up(): Promise<void> {
    await this.client.api.up({}, AbortSignal.timeout(UP_LIMIT_MS));
  }

  /** The client carries traffic again. */
  async carried(): Promise<void> {
    await statusOf(this.client, (status) => isUp(activeSession(status)), UP_LIMIT_MS);
  }

  /** The machine is carried over to the other one of two networks. */
  async move(): Promise<void> {
    this.#home = this.#home === this.otherHome ? this.fleet.home('c1') : this.otherHome;
    await this.#home.adopt(this.client.host);
  }

  /**
   * Traffic of all kinds before, during and after something, and what the routers saw of it. `opens`: it begins in the
   * open, so that only what comes after the first datagram through a tunnel counts.
   */
  async watch(what: () => Promise<void>, { opens = false, afterMs = AROUND_MS } = {}): Promise<Run> {
    const homes = [this.fleet.home('c1'), this.otherHome];
    const captures = await Promise.all(homes.map((home) => home.router.capture(INSIDE)));
    const began = Date.now() / 1_000;
    const traffic = await this.#traffic();
    let through = began;
    try {
      await pause(AROUND_MS);
      await what();
      if (opens) through = Number((await traffic.program.waitForLine(/^through ([\d.]+)$/, START_LIMIT_MS))[1]);
      await pause(afterMs);
    } finally {
      await traffic.stop();
    }
    // What it had under way is out by then.
    const until = Date.now() / 1_000;
    return { ...(await this.#judged(captures, through, until)), sent: traffic.sent() };
  }

  async #judged(captures: readonly Capture[], from: number, until: number): Promise<Omit<Run, 'sent'>> {
    const summaries = await Promise.all(captures.map((capture) => capture.stop()));
    const packets = summaries.flatMap((summary) => summary.packets);
    return { frames: packets.length, leaks: leaksIn(packets, this.#known, from, until) };
  }

  async #traffic() {
    const { host } = this.client;
    const { web } = this.fleet;
    const options: TrafficOptions = {
      servers: { 4: web.host.ipv4 ?? '', 6: web.host.ipv6 ?? '' },
      router: this.#home.router.ipv4 ?? '',
      home: this.#home.publicIpv4,
      device: OUTSIDE,
      echoPort: ECHO_PORT,
    };
    const lan = { ...options, router: routerOf(this.#home) };
    const program = host.spawn([process.execPath, PROGRAM, JSON.stringify(lan)]);
    await program.waitForLine(/^rolling$/, START_LIMIT_MS);
    const to = [options.servers[4], options.servers[6]];
    const others: readonly Spawned[] = [
      ...to.flatMap((ip) => [
        host.spawn(['ping', '-n', '-i', '0.05', ip]),
        // Bound to the device itself, which no rule of routing has a say in.
        host.spawn(['ping', '-n', '-i', '0.05', '-I', OUTSIDE, ip]),
      ]),
      host.spawn(['bash', '-c', LOOP, 'loop', OUTSIDE, web.url, web.url6]),
    ];
    let sent = 0;
    return {
      program,
      sent: () => sent,
      stop: async () => {
        for (const one of others) one.kill('SIGKILL');
        program.kill('SIGTERM');
        sent = Number((await program.waitForLine(/^sent (\d+)$/, START_LIMIT_MS))[1]);
        await Promise.all([program, ...others].map((one) => one.exited));
      },
    };
  }

  async close(): Promise<void> {
    await this.fleet.close();
  }
}

/** curl binds to the device by SO_BINDTODEVICE. */
const LOOP =
  'while :; do for url in "$2" "$3"; do curl -gs -m 1 -o /dev/null --interface "$1" "$url"; done; sleep 0.2; done';

const routerOf = (home: Home): string => `192.168.${home.publicIpv4.split('.')[3]}.1`;
