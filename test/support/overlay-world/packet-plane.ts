import type { MemoryDataPlane } from '../../../dataplane/memory.js';
import type { SodiumCrypto } from '../../../src/identity/sodium.js';
import { type Endpoint, type IpAddress, type Port, prefixLength, sameEndpoint } from '../../../src/model/address.js';
import type { DeviceUnit, PeerUnit, RelayUnit, UnitId } from '../../../src/model/dataplane.js';
import { parseWireGuardPrivateKey, type WireGuardPublicKey } from '../../../src/model/keys.js';
import type { Instant } from '../../../src/model/time.js';

/** A machine as packets see it: an address, what its kernel holds, whether it has power. */
export interface PacketMachine {
  readonly name: string;
  readonly ip: IpAddress;
  readonly kernel: MemoryDataPlane;
  readonly powered: boolean;
}

export type Way =
  | { readonly ok: true; readonly exit: PacketMachine; readonly hops: readonly string[] }
  | { readonly ok: false; readonly why: string };

/** WireGuard shakes hands anew after this long. */
const REHANDSHAKE = 120_000;

const no = (why: string): Way => ({ ok: false, why });

/**
 * What the kernels of all machines together make of a client's packets: from its WireGuard peer over relay ports to the
 * exit's peer, every step held to what the units really say. Sets handshakes where the whole way is consistent.
 */
export class PacketPlane {
  readonly #publicKeys = new Map<string, WireGuardPublicKey>();

  constructor(
    private readonly world: {
      machines(): readonly PacketMachine[];
      open(from: IpAddress, to: IpAddress): boolean;
      now(): Instant;
      readonly crypto: SodiumCrypto;
    },
  ) {}

  /** Handshakes of a client's tunnels, as of now. */
  async refresh(client: PacketMachine): Promise<void> {
    const seen = new Map((await client.kernel.observePeers()).map((one) => [one.publicKey, one.lastHandshake]));
    for (const peer of peersOf(client)) {
      if (peer.allowedIps.every((network) => prefixLength(network) > 0)) continue;
      const way = this.way(client, peer);
      if (!way.ok) continue;
      const key = this.#keyOf(client, peer.device);
      const last = seen.get(peer.publicKey);
      if (last !== undefined && this.world.now() - last < REHANDSHAKE) continue;
      client.kernel.setHandshake(peer.device, peer.publicKey, this.world.now());
      for (const there of peersOf(way.exit)) {
        if (there.publicKey === key) way.exit.kernel.setHandshake(there.device, there.publicKey, this.world.now());
      }
    }
  }

  /** Whether packets of a client's one tunnel reach an exit and come back, and over which relay ports. */
  wayOf(client: PacketMachine): Way {
    const [peer] = peersOf(client);
    return peer === undefined ? no('it has no tunnel') : this.way(client, peer);
  }

  way(client: PacketMachine, peer: PeerUnit): Way {
    if (!client.powered) return no(`${client.name} has no power`);
    const { endpoint } = peer;
    if (endpoint === undefined) return no('the tunnel has no endpoint');
    const first = this.#machineAt(client.ip, endpoint.ip);
    if (typeof first === 'string') return no(first);
    const relay = relayOn(first, endpoint);
    if (relay === undefined) return this.#arrive(client, peer, first, endpoint.port, []);
    if (!first.kernel.learn(relay.port, { ip: client.ip, port: 51_820 as Port }))
      return no(`${first.name} drops packets from ${client.ip}: it is vouched for ${relay.vouched.join(' ')}`);
    return this.#beyond(client, peer, first, relay);
  }

  #beyond(client: PacketMachine, peer: PeerUnit, near: PacketMachine, relay: RelayUnit): Way {
    const hops = [`${near.name}:${relay.port}`];
    if (relay.next.kind === 'pair') {
      const other = near.kernel.unit(`relay/${relay.next.port}` as UnitId);
      if (other?.kind !== 'relay') return no(`${near.name} has no relay port ${relay.next.port}`);
      if (other.next.kind !== 'pair' || other.next.port !== relay.port) return no('the pair does not lead back');
      return this.#toExit(client, peer, near, other, hops);
    }
    const { endpoint } = relay.next;
    const far = this.#machineAt(near.ip, endpoint.ip);
    if (typeof far === 'string') return no(far);
    const other = relayOn(far, endpoint);
    if (other === undefined) return this.#arrive(client, peer, far, endpoint.port, hops);
    const back = { ip: relay.localIp, port: relay.port };
    if (other.next.kind !== 'hop' || !sameEndpoint(other.next.endpoint, back)) return no('the hop does not lead back');
    return this.#toExit(client, peer, far, other, hops);
  }

  /** The last relay faces an exit that opened its NAT itself. */
  #toExit(
    client: PacketMachine,
    peer: PeerUnit,
    last: PacketMachine,
    relay: RelayUnit,
    before: readonly string[],
  ): Way {
    const hops = [...before, `${last.name}:${relay.port}`];
    const exit = this.#exitWith(peer.publicKey);
    if (exit === undefined) return no('no machine has the exit’s key');
    if (!exit.powered || !this.world.open(last.ip, exit.ip)) return no(`${exit.name} is cut off from ${last.name}`);
    const there = this.#peerFor(client, peer, exit);
    if (there === undefined) return no(`${exit.name} does not know this client’s key`);
    if (!sameEndpoint(there.endpoint, { ip: relay.localIp, port: relay.port }))
      return no(`${exit.name} sends to another relay port`);
    if (!last.kernel.learn(relay.port, { ip: exit.ip, port: 51_821 as Port }))
      return no(`${last.name} drops packets from ${exit.ip}`);
    return this.#complete(client, peer, exit, there, hops);
  }

  /** Straight to a WireGuard port: a direct path, or a supernode's own egress. */
  #arrive(client: PacketMachine, peer: PeerUnit, exit: PacketMachine, port: Port, hops: readonly string[]): Way {
    const device = devicesOf(exit).find((one) => one.listenPort === port);
    if (device === undefined || this.#publicKeyOf(device) !== peer.publicKey)
      return no(`${exit.name} has nothing on port ${port} with the exit’s key`);
    const there = this.#peerFor(client, peer, exit);
    if (there === undefined) return no(`${exit.name} does not know this client’s key`);
    return this.#complete(client, peer, exit, there, hops);
  }

  #complete(client: PacketMachine, peer: PeerUnit, exit: PacketMachine, there: PeerUnit, hops: readonly string[]): Way {
    const inner = devicesOf(client).find((one) => one.name === peer.device)?.addresses ?? [];
    if ([...inner].sort().join() !== [...there.allowedIps].sort().join())
      return no(`${exit.name} lets ${there.allowedIps.join(' ')} through, not ${inner.join(' ')}`);
    return { ok: true, exit, hops: [...hops, exit.name] };
  }

  #peerFor(client: PacketMachine, peer: PeerUnit, exit: PacketMachine): PeerUnit | undefined {
    const key = this.#keyOf(client, peer.device);
    return peersOf(exit).find((one) => one.publicKey === key);
  }

  #exitWith(key: WireGuardPublicKey): PacketMachine | undefined {
    return this.world.machines().find((one) => devicesOf(one).some((device) => this.#publicKeyOf(device) === key));
  }

  #machineAt(from: IpAddress, ip: IpAddress): PacketMachine | string {
    const found = this.world.machines().find((one) => one.ip === ip);
    if (found === undefined || !found.powered) return `nothing is at ${ip}`;
    return this.world.open(from, ip) ? found : `${ip} is cut off`;
  }

  #keyOf(machine: PacketMachine, device: string): WireGuardPublicKey | undefined {
    const unit = devicesOf(machine).find((one) => one.name === device);
    return unit && this.#publicKeyOf(unit);
  }

  #publicKeyOf(device: DeviceUnit): WireGuardPublicKey {
    const known = this.#publicKeys.get(device.privateKey);
    if (known !== undefined) return known;
    const parsed = parseWireGuardPrivateKey(device.privateKey);
    if (!parsed.ok) throw new Error(parsed.error);
    const { publicKey } = this.world.crypto.wireGuardFromPrivate(parsed.value);
    this.#publicKeys.set(device.privateKey, publicKey);
    return publicKey;
  }
}

const peersOf = (machine: PacketMachine): readonly PeerUnit[] =>
  machine.kernel.units().filter((unit) => unit.kind === 'peer');
const devicesOf = (machine: PacketMachine): readonly DeviceUnit[] =>
  machine.kernel.units().filter((unit) => unit.kind === 'device');

function relayOn(machine: PacketMachine, at: Endpoint): RelayUnit | undefined {
  const unit = machine.kernel.unit(`relay/${at.port}` as UnitId);
  return unit?.kind === 'relay' && unit.localIp === at.ip ? unit : undefined;
}
