import type { Capture, Home } from '../lab/index.js';
import { CANARY } from '../leaks/canary.js';
import { type Known, leaksIn } from '../leaks/judge.js';
import type { Fleet } from '../overlay/index.js';

/** The router's side of a home's own network, as Home lays it. */
const INSIDE = 'lan0';
const BASE_PORT = 7400;
/** So many of a kind are shown. */
const SHOWN = 5;

/** Recordings of a scenario: the networks that clients are in, and everything that passes between public hosts. */
export class Underlay {
  readonly #homes = new Map<Home, Capture>();
  readonly #known: Known;

  private constructor(
    fleet: Fleet,
    private readonly internet: Capture,
  ) {
    this.#known = {
      base: { ip: fleet.base.host.ipv4 ?? '', port: BASE_PORT },
      supernodes: new Set(fleet.supernodes.flatMap(({ host }) => [host.ipv4 ?? '', host.ipv6 ?? ''])),
      exits: new Set(fleet.exits.map(({ name }) => fleet.home(name).publicIpv4)),
    };
  }

  /** Begins with the internet alone, but for what goes to and from the web server: it is out of the tunnel there. */
  static async record(fleet: Fleet): Promise<Underlay> {
    const { ipv4, ipv6 } = fleet.web.host;
    const filter = `not host ${ipv4} and not host ${ipv6}`;
    return new Underlay(fleet, await fleet.lab.internet.capture('br0', filter));
  }

  /** Record a home's network too: a client is there, or comes there. */
  async watch(home: Home): Promise<void> {
    if (!this.#homes.has(home)) this.#homes.set(home, await home.router.capture(INSIDE));
  }

  /**
   * Ends the recordings; answers with what should not have been seen between two moments, in seconds since 1970, while
   * every client was to be protected, and with the number of frames looked at.
   */
  async stop(from: number, until: number): Promise<{ readonly frames: number; readonly trouble: readonly string[] }> {
    const [internet, ...homes] = await Promise.all(
      [this.internet, ...this.#homes.values()].map((capture) => capture.stop()),
    );
    const atHome = homes.flatMap(({ packets }) => leaksIn(packets, this.#known, from, until));
    const exits = this.#known.exits;
    const outside = (internet?.packets ?? []).flatMap(({ kind, packet }) => {
      if (packet.at < from || packet.at > until) return [];
      const { ip, ports } = packet;
      const told = `${kind} ${ip?.from}:${ports?.from ?? ''} > ${ip?.to}:${ports?.to ?? ''} at ${packet.at.toFixed(3)}`;
      if (Buffer.from(packet.bytes).includes(CANARY)) return [`a canary between public hosts: ${told}`];
      const isTheirs = ip === undefined || exits.has(ip.from) || exits.has(ip.to);
      const isOurs = ['wireguard', 'tls', 'probe', 'tcp-control', 'icmp', 'arp'].includes(kind);
      return isOurs || isTheirs ? [] : [`plaintext between public hosts: ${told}`];
    });
    const frames = [internet, ...homes].reduce((sum, one) => sum + (one?.packets.length ?? 0), 0);
    return { frames, trouble: [...shortened(atHome), ...shortened(outside)] };
  }
}

const shortened = (lines: readonly string[]): readonly string[] =>
  lines.length <= SHOWN ? lines : [...lines.slice(0, SHOWN), `and ${lines.length - SHOWN} more such`];
