import { type Endpoint, type IpAddress, type Port, sameEndpoint } from '../../../src/model/address.js';
import type { DeviceUnit, PeerUnit, RelayUnit, UnitId } from '../../../src/model/dataplane.js';
import type { WireGuardPublicKey } from '../../../src/model/keys.js';
import type { Machine } from './machine.js';

export type Way =
  | { readonly ok: true; readonly exit: Machine; readonly hops: readonly string[] }
  | { readonly ok: false; readonly why: string };

const no = (why: string): Way => ({ ok: false, why });

/**
 * Where a client's packets go by what every kernel and router on the way holds at this moment, without sending one:
 * from its WireGuard peer over relay ports to the exit's peer and the internet, or the first step that does not fit.
 */
export class PacketPlane {
  constructor(
    private readonly world: {
      machines(): readonly Machine[];
      open(from: IpAddress, to: IpAddress): boolean;
      publicKeyOf(device: DeviceUnit): WireGuardPublicKey;
    },
  ) {}

  /** Of a client's active tunnel, or of one of its devices. */
  wayOf(client: Machine, device?: string): Way {
    const active = client.kernel
      .units()
      .flatMap((unit) => (unit.kind === 'full-tunnel' && unit.use === 'active' ? [unit] : []))
      .sort((a, b) => a.table - b.table)[0];
    const name = device ?? active?.device;
    const peer = peersOf(client).find((one) => one.device === name);
    if (peer === undefined) return no('it has no tunnel');
    if (!client.awake) return no(`${client.name} has no power`);
    const to = client.host.wireguard.endpointOf(peer.device, peer.publicKey);
    if (to === undefined) return no('the tunnel has no endpoint');
    if (!client.host.leavesBeside('udp', to))
      return no(`the kill switch keeps ${client.name} from ${to.ip}:${to.port}`);
    return this.#from(client, peer, to);
  }

  #from(client: Machine, peer: PeerUnit, to: Endpoint): Way {
    const first = this.#machineAt(client, to.ip);
    if (typeof first === 'string') return no(first);
    const relay = relayOn(first, to);
    if (relay === undefined) return this.#direct(client, peer, first, to);
    if (!relay.vouched.includes(client.publicIp))
      return no(`${first.name} drops packets from ${client.publicIp}: it is vouched for ${relay.vouched.join(' ')}`);
    return this.#beyond(client, peer, first, relay);
  }

  #beyond(client: Machine, peer: PeerUnit, near: Machine, relay: RelayUnit): Way {
    const hops = [`${near.name}:${relay.port}`];
    if (relay.next.kind === 'pair') {
      const other = near.kernel.unit(`relay/${relay.next.port}` as UnitId);
      if (other?.kind !== 'relay') return no(`${near.name} has no relay port ${relay.next.port}`);
      if (other.next.kind !== 'pair' || other.next.port !== relay.port) return no('the pair does not lead back');
      return this.#toExit(client, peer, near, other, hops);
    }
    const { endpoint } = relay.next;
    const far = this.#machineAt(near, endpoint.ip);
    if (typeof far === 'string') return no(far);
    const other = relayOn(far, endpoint);
    if (other === undefined) return this.#arrive(client, peer, far, endpoint.port, hops);
    const back = { ip: relay.localIp, port: relay.port };
    if (other.next.kind !== 'hop' || !sameEndpoint(other.next.endpoint, back)) return no('the hop does not lead back');
    return this.#toExit(client, peer, far, other, hops);
  }

  /** The last relay faces an exit that opened its NAT itself. */
  #toExit(client: Machine, peer: PeerUnit, last: Machine, relay: RelayUnit, before: readonly string[]): Way {
    const hops = [...before, `${last.name}:${relay.port}`];
    const exit = last.kernel.learned(relay.port);
    if (exit === undefined) return no(`${last.name} does not know where the exit is`);
    const there = this.#machineAt(last, exit.ip);
    if (typeof there === 'string') return no(there);
    const port = there.nat.inbound(exit.port, { ip: relay.localIp, port: relay.port }, there.name);
    if (port === undefined) return no(`${there.name}’s router lets nothing in from ${last.name}:${relay.port}`);
    return this.#arrive(client, peer, there, port, hops);
  }

  #direct(client: Machine, peer: PeerUnit, exit: Machine, to: Endpoint): Way {
    const port = client.host.wireguard.portOf(peer.device);
    const seen = port === undefined ? undefined : client.nat.peek(port, to, client.name);
    const inside =
      seen === undefined ? undefined : exit.nat.inbound(to.port, { ip: client.publicIp, port: seen }, exit.name);
    if (inside === undefined) return no(`${exit.name}’s router lets nothing in from ${client.name}`);
    return this.#arrive(client, peer, exit, inside, []);
  }

  #arrive(client: Machine, peer: PeerUnit, exit: Machine, port: Port, hops: readonly string[]): Way {
    const device = exit.host.wireguard.deviceOn(port);
    if (device === undefined || this.world.publicKeyOf(device) !== peer.publicKey)
      return no(`${exit.name} has nothing on port ${port} with the exit’s key`);
    const own = client.kernel.unit(`device/${peer.device}` as UnitId);
    if (own?.kind !== 'device') return no(`${client.name} has no device ${peer.device}`);
    const key = this.world.publicKeyOf(own);
    const there = peersOf(exit).find((one) => one.device === device.name && one.publicKey === key);
    if (there === undefined) return no(`${exit.name} does not know this client’s key`);
    if (there.presharedKey !== peer.presharedKey) return no('the pre-shared keys differ');
    if ([...own.addresses].sort().join() !== [...there.allowedIps].sort().join())
      return no(`${exit.name} lets ${there.allowedIps.join(' ')} through, not ${own.addresses.join(' ')}`);
    if (exit.kernel.unit(`egress/${device.name}` as UnitId) === undefined) return no(`${exit.name} has no egress`);
    return exit.uplink ? { ok: true, exit, hops: [...hops, exit.name] } : no(`${exit.name} has no internet`);
  }

  #machineAt(from: Machine, ip: IpAddress): Machine | string {
    const found = this.world.machines().find((one) => one.publicIp === ip);
    if (found === undefined || !found.awake) return `nothing is at ${ip}`;
    if (from.udpBlocked || found.udpBlocked) return `no UDP between ${from.name} and ${found.name}`;
    return this.world.open(from.ip, found.ip) ? found : `${ip} is cut off from ${from.name}`;
  }
}

const peersOf = (machine: Machine): readonly PeerUnit[] =>
  machine.kernel.units().filter((unit) => unit.kind === 'peer');

function relayOn(machine: Machine, at: Endpoint): RelayUnit | undefined {
  const unit = machine.kernel.unit(`relay/${at.port}` as UnitId);
  return unit?.kind === 'relay' && unit.localIp === at.ip ? unit : undefined;
}
