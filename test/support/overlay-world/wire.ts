import type { Clock } from '../../../src/core/ports/clock.js';
import type { Endpoint, IpAddress } from '../../../src/model/address.js';
import type { Millis } from '../../../src/model/time.js';
import type { Nat } from './nat.js';
import type { Datagram } from './packets.js';

/** A machine's end of the wire. */
export interface Station {
  readonly name: string;
  /** Where its UDP seems to come from. */
  readonly publicIp: IpAddress;
  readonly nat: Nat;
  /** It has power, and its kernel runs. */
  readonly awake: boolean;
  /** Its network lets no UDP through. */
  readonly udpBlocked: boolean;
  receive(datagram: Datagram): void;
}

export interface WireDeps {
  readonly clock: Clock;
  readonly stations: () => readonly Station[];
  /** Whether anything gets from one machine to the other. */
  readonly open: (from: Station, to: Station) => boolean;
  /** One way, between any two. */
  readonly latency: Millis;
}

/** The internet as UDP sees it: each datagram takes its time, and is lost where the way is cut when it arrives. */
export class Wire {
  constructor(private readonly deps: WireDeps) {}

  send(from: Station, datagram: Datagram): void {
    const { clock, latency } = this.deps;
    if (!from.awake) return;
    const { port } = datagram.from;
    const { to, payload } = datagram;
    if (isLoopback(to.ip)) {
      // Whatever address it was sent from: on the loopback it comes from the loopback.
      const local = { ...datagram, from: { ip: to.ip, port } };
      clock.after(0 as Millis, () => from.awake && from.receive(local));
      return;
    }
    const seen: Endpoint = { ip: from.publicIp, port: from.nat.outbound(port, to) };
    const left = this.at(to.ip);
    if (from.udpBlocked || left === undefined || !this.deps.open(from, left)) return;
    clock.after(latency, () => {
      const target = this.at(to.ip);
      if (target === undefined || !target.awake || target.udpBlocked || !this.deps.open(from, target)) return;
      const inside = target.nat.inbound(to.port, seen);
      if (inside !== undefined) target.receive({ from: seen, to: { ip: to.ip, port: inside }, payload });
    });
  }

  at(ip: IpAddress): Station | undefined {
    return this.deps.stations().find((one) => one.publicIp === ip);
  }
}

export const isLoopback = (ip: IpAddress): boolean => ip.startsWith('127.') || ip === '::1';
