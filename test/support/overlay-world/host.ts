import type { MemoryDataPlane } from '../../../dataplane/memory.js';
import type { Clock } from '../../../src/core/ports/clock.js';
import type { Random } from '../../../src/core/ports/random.js';
import { cidrAddress, type Endpoint, type IpAddress, type Port, sameEndpoint } from '../../../src/model/address.js';
import {
  type DeviceUnit,
  type FullTunnelUnit,
  KILL_SWITCH,
  type KillSwitchUnit,
  type RelayUnit,
  type UnitId,
} from '../../../src/model/dataplane.js';
import type { WireGuardPublicKey } from '../../../src/model/keys.js';
import { MachineSockets } from './memory-udp-sockets.js';
import { answerTo, bytesOf, type Datagram, type Inner, type Payload, payloadOf } from './packets.js';
import { isLoopback } from './wire.js';
import { WireGuard } from './wireguard.js';
import { isWireGuard } from './wireguard-peer.js';

export interface HostDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly kernel: MemoryDataPlane;
  readonly ip: () => IpAddress;
  readonly publicKeyOf: (device: DeviceUnit) => WireGuardPublicKey;
  readonly fresh: () => number;
  readonly freePort: () => Port;
  /** Puts a datagram on the wire. */
  readonly emit: (datagram: Datagram) => void;
  /** An egress sends a packet to the internet; `back` is called with its answer, if one comes. */
  readonly internet: (inner: Inner, back: (answer: Inner) => void) => void;
  /** An answer came back to this machine itself. */
  readonly answered: (inner: Inner) => void;
}

/** What became of a packet that a program of this machine sent. */
export type Sent =
  | { readonly by: 'tunnel'; readonly device: string }
  /** Kept back, as there is a tunnel that should carry it and cannot. */
  | { readonly by: 'nobody'; readonly why: string }
  /** The connection was reset at once, as its tunnel is dead. */
  | { readonly by: 'reset' }
  /** Not by any tunnel: nothing keeps it from leaving as it is. */
  | { readonly by: 'uplink' };

/** One machine's kernel as packets meet it: relay ports, WireGuard, sockets, the routes and the kill switch. */
export class Host {
  readonly wireguard: WireGuard;
  readonly sockets: MachineSockets;

  constructor(private readonly deps: HostDeps) {
    const { clock, random, kernel, publicKeyOf, fresh, freePort } = deps;
    this.wireguard = new WireGuard({
      clock,
      random,
      kernel,
      publicKeyOf,
      fresh,
      freePort,
      send: (port, to, message) => this.#leave({ ip: deps.ip(), port }, to, message),
      deliver: (device, inner) => this.#arrive(device, inner),
    });
    this.sockets = new MachineSockets({
      carry: (from, to, bytes) => this.#leave({ ip: deps.ip(), port: from.port }, to, payloadOf(bytes)),
    });
  }

  /** A program sends a packet into the tunnel that its source or the routes name. */
  send(inner: Inner): Sent {
    const tunnels = this.#tunnels();
    const bound = tunnels.find((one) => one.sources.includes(inner.source));
    const tunnel = bound ?? activeOf(tunnels);
    if (tunnel === undefined) {
      if (tunnels.length > 0) return { by: 'nobody', why: 'no tunnel is active' };
      return this.#killSwitch() === undefined ? { by: 'uplink' } : { by: 'nobody', why: 'the kill switch is on' };
    }
    if (tunnel.use === 'dead') return { by: 'reset' };
    return this.wireguard.send(tunnel.device, inner)
      ? { by: 'tunnel', device: tunnel.device }
      : { by: 'nobody', why: `${tunnel.device} has no peer` };
  }

  /** The address that a new connection gets: the active tunnel's; undefined where there is none. */
  source(): IpAddress | undefined {
    return activeOf(this.#tunnels())?.sources[0];
  }

  /**
   * Whether a packet of the daemon or of WireGuard leaves beside the tunnels: its way leads past them, or there are none, and no
   * kill switch holds it.
   */
  leavesBeside(protocol: 'tcp' | 'udp', to: Endpoint): boolean {
    const tunnels = this.#tunnels();
    const isOf = (list: FullTunnelUnit['exempt']) =>
      list.some((one) => one.protocol === protocol && sameEndpoint(one.endpoint, to));
    const isRouted = tunnels.length === 0 || tunnels.some(({ exempt }) => isOf(exempt));
    const held = this.#killSwitch();
    if (held === undefined || !isRouted) return isRouted;
    return isOf(held.own) || (protocol === 'udp' && held.endpoints.some((one) => sameEndpoint(one, to)));
  }

  receive({ from, to, payload }: Datagram): void {
    const relay = this.deps.kernel.unit(`relay/${to.port}` as UnitId);
    if (relay?.kind === 'relay' && relay.localIp === to.ip) {
      this.#relay(relay, from, payload);
      return;
    }
    if (isWireGuard(payload) && !this.sockets.has(to)) {
      const device = this.wireguard.deviceOn(to.port);
      const seen = device === undefined ? from : this.#pinned(device, from);
      if (this.wireguard.receive(to.port, payload, seen)) return;
    }
    this.sockets.deliver(bytesOf(payload), from, to);
  }

  /** From the next hop to the peer, from the peer to the next hop; what nobody vouches for goes nowhere. */
  #relay(unit: RelayUnit, from: Endpoint, payload: Payload): void {
    const { kernel } = this.deps;
    const own = { ip: unit.localIp, port: unit.port };
    if (unit.next.kind === 'hop' && sameEndpoint(from, unit.next.endpoint)) {
      const peer = kernel.learned(unit.port);
      if (peer !== undefined) this.deps.emit({ from: own, to: peer, payload });
      return;
    }
    if (!kernel.learn(unit.port, from)) return;
    if (unit.next.kind === 'hop') {
      this.deps.emit({ from: own, to: unit.next.endpoint, payload });
      return;
    }
    const other = kernel.unit(`relay/${unit.next.port}` as UnitId);
    const peer = other?.kind === 'relay' ? kernel.learned(other.port) : undefined;
    if (other?.kind === 'relay' && peer !== undefined)
      this.deps.emit({ from: { ip: other.localIp, port: other.port }, to: peer, payload });
  }

  /** Packets from the old end of a pin are made to look as if they came from the new one. */
  #pinned(device: DeviceUnit, from: Endpoint): Endpoint {
    const { kernel } = this.deps;
    const unit = kernel.unit(`full-tunnel/${device.name}` as UnitId);
    const pin = unit?.kind === 'full-tunnel' ? unit.pin : undefined;
    if (pin === undefined) return from;
    if (sameEndpoint(from, pin.to)) kernel.countPinned(device.name, { toPackets: 1 });
    if (!sameEndpoint(from, pin.from)) return from;
    kernel.countPinned(device.name, { fromPackets: 1 });
    return pin.to;
  }

  /** The kill switch knows no exception for WireGuard: its endpoint is exempt, or nothing leaves. */
  #leave(from: Endpoint, to: Endpoint, payload: Payload): void {
    if (isLoopback(to.ip)) this.deps.emit({ from: { ip: to.ip, port: from.port }, to, payload });
    else if (this.leavesBeside('udp', to)) this.deps.emit({ from, to, payload });
  }

  /** A packet comes out of a tunnel. */
  #arrive(device: DeviceUnit, inner: Inner): void {
    const back = (answer: Inner) => void this.wireguard.send(device.name, answer);
    const egress = this.deps.kernel.unit(`egress/${device.name}` as UnitId);
    if (inner.kind === 'pong' || inner.kind === 'reset') this.deps.answered(inner);
    else if (device.addresses.some((own) => cidrAddress(own) === inner.destination)) back(answerTo(inner));
    else if (egress?.kind === 'egress') this.deps.internet(inner, back);
  }

  #killSwitch(): KillSwitchUnit | undefined {
    const unit = this.deps.kernel.unit(KILL_SWITCH);
    return unit?.kind === 'kill-switch' ? unit : undefined;
  }

  #tunnels(): readonly FullTunnelUnit[] {
    return this.deps.kernel.units().filter((unit) => unit.kind === 'full-tunnel');
  }
}

/** Of several the one with the lowest table. */
function activeOf(tunnels: readonly FullTunnelUnit[]): FullTunnelUnit | undefined {
  return tunnels.filter((one) => one.use === 'active').sort((a, b) => a.table - b.table)[0];
}
