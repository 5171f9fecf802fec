import type { Reach } from '../../../src/core/ports/reach.js';
import type { SodiumCrypto } from '../../../src/identity/sodium.js';
import { cidrAddress, type Endpoint, type IpAddress, type Port } from '../../../src/model/address.js';
import type { DeviceUnit } from '../../../src/model/dataplane.js';
import { parseWireGuardPrivateKey, type WireGuardPublicKey } from '../../../src/model/keys.js';
import { type Millis, ms } from '../../../src/model/time.js';
import { MemoryInternet } from '../../../src/transport/memory-network.js';
import type { seededRandom } from '../seeded-random.js';
import type { VirtualClock } from '../virtual-clock.js';
import { Host } from './host.js';
import type { Machine } from './machine.js';
import { MemoryUdp } from './memory-datagrams.js';
import { memoryReach } from './memory-reach.js';
import { Nat, type NatBehaviour, type NatKind } from './nat.js';
import { answerTo, type Inner } from './packets.js';
import type { ProcessClock } from './process-clock.js';
import { Questions } from './traffic.js';
import { copies, lateness } from './weather.js';
import { Wire } from './wire.js';

/** The network underneath a world: streams and calls, datagrams, and what cuts them. */
export class Underlay {
  readonly internet: MemoryInternet;
  readonly udp: MemoryUdp;
  readonly wire: Wire;
  readonly questions = new Questions();
  readonly #udpAnyway = new Set<string>();
  readonly #publicKeys = new Map<string, WireGuardPublicKey>();

  constructor(
    private readonly deps: {
      readonly clock: VirtualClock;
      readonly crypto: SodiumCrypto;
      readonly chance: (name: string) => ReturnType<typeof seededRandom>;
      readonly latency: Millis;
      readonly machines: () => readonly Machine[];
    },
  ) {
    const { clock, latency, machines } = deps;
    const chance = deps.chance('weather');
    const weather = (...ips: readonly IpAddress[]) =>
      machines().flatMap((one) => (ips.includes(one.ip) || ips.includes(one.publicIp) ? [one.weather] : []));
    this.internet = new MemoryInternet({
      clock,
      random: deps.chance('internet'),
      latency: (from, to) => ms(latency + lateness(weather(from, to), chance)),
    });
    this.udp = new MemoryUdp({
      latency: () => latency,
      copies: (from, to) => copies(weather(from, to), chance),
      open: (from, to) => this.#udpOpen(from, to),
    });
    this.wire = new Wire({
      clock,
      latency,
      stations: machines,
      open: (from, to) => !from.udpBlocked && !to.udpBlocked && this.open(from.ip, to.ip),
      copies: (from, to) => copies(weather(from.ip, to.ip), chance),
    });
  }

  nat(kind: NatKind | NatBehaviour, name: string): Nat {
    return new Nat(kind, this.deps.clock, this.deps.chance(`nat of ${name}`));
  }

  /** What moves a machine's packets. */
  host(machine: Machine): Host {
    const { clock, latency } = this.deps;
    const random = this.deps.chance(`kernel of ${machine.name}`);
    return new Host({
      clock,
      random,
      kernel: machine.kernel,
      ip: () => machine.publicIp,
      publicKeyOf: (device) => this.publicKeyOf(device),
      fresh: this.questions.fresh,
      freePort: () => (32_768 + Math.floor(random.fraction() * 28_000)) as Port,
      emit: (datagram) => this.wire.send(machine, datagram),
      internet: (inner, back) => {
        if (!this.#online(machine)) return;
        clock.after(ms(2 * latency), () => this.#online(machine) && back(answerTo(inner)));
      },
      answered: (inner) => this.questions.answered(inner),
    });
  }

  /** TCP probes of one process. */
  reach(machine: Machine, own: ProcessClock): Reach {
    return memoryReach(own, (to, from, answered) => {
      if (!machine.awake) return;
      const { host } = machine;
      const inside = from !== undefined || !host.leavesBeside('tcp', to);
      if (!inside) return this.#probe(machine, to, answered);
      const source = from ?? host.source();
      if (source === undefined) return;
      const owned = machine.kernel
        .units()
        .some((unit) => unit.kind === 'device' && unit.addresses.some((network) => cidrAddress(network) === source));
      if (!owned) return;
      const inner: Inner = { kind: 'syn', id: this.questions.fresh(), source, destination: to.ip };
      this.questions.expect(inner.id, answered);
      // A rule of its own resets the connection: to whoever asked, that is an answer like another.
      if (host.send(inner).by === 'reset') this.deps.clock.after(ms(0), answered);
    });
  }

  /** `control` cuts streams and calls, and lets UDP through. */
  partition(a: Machine, b: Machine, what: 'all' | 'control'): void {
    if (what === 'control') this.#udpAnyway.add(pair(a.ip, b.ip));
    this.internet.partition(a.ip, b.ip);
  }

  heal(a: Machine, b: Machine): void {
    this.#udpAnyway.delete(pair(a.ip, b.ip));
    this.internet.heal(a.ip, b.ip);
  }

  open(a: IpAddress, b: IpAddress): boolean {
    return this.internet.open(a, b) || this.#udpAnyway.has(pair(a, b));
  }

  publicKeyOf(device: DeviceUnit): WireGuardPublicKey {
    const known = this.#publicKeys.get(device.privateKey);
    if (known !== undefined) return known;
    const parsed = parseWireGuardPrivateKey(device.privateKey);
    if (!parsed.ok) throw new Error(parsed.error);
    const { publicKey } = this.deps.crypto.wireGuardFromPrivate(parsed.value);
    this.#publicKeys.set(device.privateKey, publicKey);
    return publicKey;
  }

  #probe(machine: Machine, to: Endpoint, answered: () => void): void {
    const there = this.deps.machines().find((one) => one.ip === to.ip);
    const reached = () =>
      there === undefined ? this.#online(machine) : there.awake && this.internet.open(machine.ip, there.ip);
    if (reached()) this.deps.clock.after(ms(2 * this.deps.latency), () => reached() && answered());
  }

  /** Whether a machine reaches what is no machine of the world. */
  #online(machine: Machine): boolean {
    return machine.awake && machine.uplink && this.internet.open(machine.ip, ELSEWHERE);
  }

  /** By the addresses that UDP shows, which may be others than TCP's. */
  #udpOpen(from: IpAddress, to: IpAddress): boolean {
    const machines = this.deps.machines();
    const [a, b] = [from, to].map((ip) => machines.find((one) => one.publicIp === ip));
    if (a?.udpBlocked === true || b?.udpBlocked === true) return false;
    return this.open(a?.ip ?? from, b?.ip ?? to);
  }
}

const ELSEWHERE = '9.9.9.9' as IpAddress;
const pair = (a: IpAddress, b: IpAddress): string => [a, b].sort().join(' ');
