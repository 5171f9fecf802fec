import type { MemoryDataPlane } from '../../../dataplane/memory.js';
import type { Clock } from '../../../src/core/ports/clock.js';
import type { Random } from '../../../src/core/ports/random.js';
import { cidrAddress, contains, type Endpoint, type IpAddress, type Port } from '../../../src/model/address.js';
import type { DeviceUnit, InterfaceName, PeerUnit } from '../../../src/model/dataplane.js';
import type { WireGuardPublicKey } from '../../../src/model/keys.js';
import type { Inner, WireGuardMessage } from './packets.js';
import { WireGuardPeer } from './wireguard-peer.js';

export interface WireGuardDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly kernel: MemoryDataPlane;
  readonly publicKeyOf: (device: DeviceUnit) => WireGuardPublicKey;
  readonly fresh: () => number;
  /** A port that is free on this machine. */
  readonly freePort: () => Port;
  readonly send: (from: Port, to: Endpoint, message: WireGuardMessage) => void;
  readonly deliver: (device: DeviceUnit, inner: Inner) => void;
}

interface Device {
  unit: DeviceUnit;
  readonly publicKey: WireGuardPublicKey;
  readonly port: Port;
  readonly peers: Map<WireGuardPublicKey, WireGuardPeer>;
  rxPackets: number;
  txPackets: number;
}

/** WireGuard in one machine's kernel: does what the units of its data plane say, and tells the data plane what it saw. */
export class WireGuard {
  readonly #devices = new Map<InterfaceName, Device>();

  constructor(private readonly deps: WireGuardDeps) {}

  /** The units changed, or may have. */
  sync(): void {
    const units = this.deps.kernel.units();
    const wanted = new Map(units.flatMap((unit) => (unit.kind === 'device' ? [[unit.name, unit] as const] : [])));
    for (const [name, device] of this.#devices) {
      const unit = wanted.get(name);
      const same = unit?.privateKey === device.unit.privateKey && (unit.listenPort ?? device.port) === device.port;
      if (!same) this.#remove(name, device);
    }
    for (const unit of wanted.values()) {
      const device = this.#devices.get(unit.name);
      if (device === undefined) this.#add(unit);
      else device.unit = unit;
    }
    const peers = units.flatMap((unit) => (unit.kind === 'peer' ? [unit] : []));
    for (const device of this.#devices.values())
      this.#syncPeers(
        device,
        peers.filter((unit) => unit.device === device.unit.name),
      );
  }

  /** A datagram for one of its ports; false when there is no device on it. */
  receive(port: Port, message: WireGuardMessage, from: Endpoint): boolean {
    const device = [...this.#devices.values()].find((one) => one.port === port);
    if (device === undefined) return false;
    switch (message.kind) {
      case 'initiation':
        if (message.to === device.publicKey) device.peers.get(message.from)?.initiated(message, from);
        break;
      case 'response':
        if (message.to === device.publicKey) device.peers.get(message.from)?.responded(message, from);
        break;
      case 'data':
        for (const peer of device.peers.values()) if (peer.received(message, from)) break;
    }
    return true;
  }

  /** Out through a device to the peer that the destination belongs to; false when there is none. */
  send(name: InterfaceName, inner: Inner): boolean {
    const device = this.#devices.get(name);
    const peer = device && [...device.peers.values()].find((one) => allows(one.unit, inner.destination));
    if (device === undefined || peer === undefined) return false;
    device.txPackets++;
    this.#count(device);
    peer.send(inner);
    return true;
  }

  portOf(name: InterfaceName): Port | undefined {
    return this.#devices.get(name)?.port;
  }

  /** Where a device sends to its peer at present: what it was told, or where it roamed to. */
  endpointOf(name: InterfaceName, peer: WireGuardPublicKey): Endpoint | undefined {
    return this.#devices.get(name)?.peers.get(peer)?.endpoint;
  }

  deviceOn(port: Port): DeviceUnit | undefined {
    return [...this.#devices.values()].find((one) => one.port === port)?.unit;
  }

  deviceWith(address: IpAddress): DeviceUnit | undefined {
    const units = [...this.#devices.values()].map((one) => one.unit);
    return units.find((unit) => unit.addresses.some((own) => cidrAddress(own) === address));
  }

  #add(unit: DeviceUnit): void {
    const publicKey = this.deps.publicKeyOf(unit);
    const port = unit.listenPort ?? this.deps.freePort();
    this.#devices.set(unit.name, { unit, publicKey, port, peers: new Map(), rxPackets: 0, txPackets: 0 });
  }

  #remove(name: InterfaceName, device: Device): void {
    for (const peer of device.peers.values()) peer.end();
    this.#devices.delete(name);
  }

  #syncPeers(device: Device, units: readonly PeerUnit[]): void {
    const wanted = new Set(units.map((unit) => unit.publicKey));
    for (const [key, peer] of device.peers) {
      if (wanted.has(key)) continue;
      peer.end();
      device.peers.delete(key);
    }
    for (const unit of units) {
      const peer = device.peers.get(unit.publicKey);
      if (peer === undefined) device.peers.set(unit.publicKey, this.#peer(device, unit));
      else if (peer.unit !== unit) peer.put(unit);
    }
  }

  #peer(device: Device, unit: PeerUnit): WireGuardPeer {
    const { clock, random, fresh, kernel } = this.deps;
    return new WireGuardPeer(device.publicKey, unit, {
      clock,
      random,
      fresh,
      send: (to, message) => this.deps.send(device.port, to, message),
      deliver: (peer, inner) => {
        if (!allows(peer.unit, inner.source)) return;
        device.rxPackets++;
        this.#count(device);
        this.deps.deliver(device.unit, inner);
      },
      changed: ({ unit: { device: name, publicKey }, endpoint, lastHandshake, rxBytes, txBytes }) =>
        kernel.setActivity(name, publicKey, { endpoint, lastHandshake, rxBytes, txBytes }),
    });
  }

  #count({ unit, rxPackets, txPackets }: Device): void {
    this.deps.kernel.setTraffic(unit.name, { rxPackets, txPackets });
  }
}

const allows = (unit: PeerUnit, address: IpAddress): boolean =>
  unit.allowedIps.some((network) => contains(network, address));
