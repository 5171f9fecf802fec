import type { Clock } from '../../../src/core/ports/clock.js';
import type { Endpoint, IpAddress } from '../../../src/model/address.js';
import type { Millis } from '../../../src/model/time.js';
import type { Nat } from './nat.js';
import type { Datagram } from './packets.js';

/** A machine's end of the wire. */
export interface Station {
  readonly name: string;
  /** Where it is on the internet: another one than UDP shows where its router says so. */
  readonly ip: IpAddress;
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
  /** Extra delays of the copies of a datagram that arrive; empty when it is lost. */
  readonly copies: (from: Station, to: Station) => readonly Millis[];
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
    const seen: Endpoint = { ip: from.publicIp, port: from.nat.outbound(port, to, from.name) };
    if (to.ip === from.publicIp && !from.nat.hairpins) return;
    const left = this.at(to.ip)[0];
    if (from.udpBlocked || left === undefined || !this.deps.open(from, left)) return;
    for (const late of this.deps.copies(from, left)) {
      clock.after((latency + late) as Millis, () => {
        for (const target of this.at(to.ip)) {
          if (!target.awake || target.udpBlocked || !this.deps.open(from, target)) continue;
          const inside = target.nat.inbound(to.port, seen, target.name);
          if (inside === undefined) continue;
          target.receive({ from: seen, to: { ip: to.ip, port: inside }, payload });
          break;
        }
      });
    }
  }

  /** Several where they are behind one router. */
  at(ip: IpAddress): readonly Station[] {
    return this.deps.stations().filter((one) => one.publicIp === ip);
  }
}

export const isLoopback = (ip: IpAddress): boolean => ip.startsWith('127.') || ip === '::1';
