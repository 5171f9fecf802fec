import { type MemoryDataPlane, memoryDataPlane } from '../../../dataplane/memory.js';
import type { Clock } from '../../../src/core/ports/clock.js';
import { sleep } from '../../../src/core/ports/clock.js';
import type { Identity } from '../../../src/core/ports/crypto.js';
import type { DataPlane, UnitChange } from '../../../src/core/ports/dataplane.js';
import type { Log, LogFields } from '../../../src/core/ports/log.js';
import type { Random } from '../../../src/core/ports/random.js';
import type { IpAddress } from '../../../src/model/address.js';
import type { VpndError } from '../../../src/model/errors.js';
import type { PeerId } from '../../../src/model/ids.js';
import type { WireGuardKeyPair } from '../../../src/model/keys.js';
import { type Millis, ms } from '../../../src/model/time.js';
import type { RunningRole } from '../../../src/roles/ports.js';
import { type MemoryStore, openMemoryStore } from '../../../src/store/memory.js';
import { type TestMetrics, testMetrics } from '../test-metrics.js';
import type { Host } from './host.js';
import { MemoryNetworkWatch } from './memory-network-watch.js';
import type { Nat } from './nat.js';
import type { Datagram } from './packets.js';
import type { ProcessClock } from './process-clock.js';
import type { Tampering } from './tampering.js';
import { CLEAR, type Weather } from './weather.js';
import type { Station } from './wire.js';

export interface Line {
  readonly at: number;
  readonly node: string;
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly text: string;
  readonly fields: LogFields;
}

/** What a process does that outlasts it: a write to its store, a change of its kernel, a message to another node. */
export type Deed = 'write' | 'kernel' | 'message';

/** A daemon that runs: it dies with its clock. */
export interface Process {
  readonly clock: ProcessClock;
  readonly role: RunningRole;
}

/** A node of a world: what survives its process, its process while there is one, and the handles of a test. */
export class Machine implements Station {
  readonly kernel: MemoryDataPlane;
  readonly host: Host;
  readonly watch: MemoryNetworkWatch;
  readonly metrics: TestMetrics = testMetrics();
  readonly tampering: Tampering = {};
  readonly #connections: IpAddress[] = [];
  store: MemoryStore = openMemoryStore();
  process: Process | undefined;
  /** Started and not yet running, or running. */
  clock: ProcessClock | undefined;
  ip: IpAddress;
  /** Where its UDP comes from, if not from where its TCP does. */
  udpIp: IpAddress | undefined;
  powered = true;
  /** It has started, and its daemon has not run since: without lockdown nobody holds its traffic. */
  booting = false;
  /** The lid is closed, or the whole machine hangs: its kernel is silent. */
  asleep = false;
  /** It is on no network. */
  unplugged = false;
  /** False where nothing of the internet is reached but its supernode. */
  uplink = true;
  /** Its network lets no UDP through. */
  udpBlocked = false;
  /** Its disk takes nothing, or has only just begun to again: the daemon may know better than what is on it. */
  diskIsStale = false;
  weather: Weather = CLEAR;
  /** How far its wall clock is ahead, in ms. */
  skew = 0;
  /** How long the kernel takes for a change; a crash may come before or after it. */
  kernelTakes: Millis = ms(0);
  /** Asked before every change of the kernel; an error makes it fail. */
  kernelFault: (change: UnitChange | 'reconcile') => VpndError | undefined = () => undefined;
  /** Asked after every change of the kernel; an error says that it failed, though it did not. */
  kernelLie: (change: UnitChange | 'reconcile') => VpndError | undefined = () => undefined;
  /** Told of whatever its process does to the world, before and after it is done. */
  deed: (kind: Deed, when: 'before' | 'after') => void = () => {};

  /** Its user wants a tunnel, as far as its disk tells. */
  get wantsTunnel(): boolean {
    return this.store.facts.get('wish') !== undefined && !this.diskIsStale;
  }

  constructor(
    readonly name: string,
    readonly role: 'base' | 'supernode' | 'exit' | 'client',
    readonly identity: Identity,
    public wireguard: WireGuardKeyPair,
    readonly random: Random,
    ip: IpAddress,
    /** The router it is behind. */
    public nat: Nat,
    /** What moves packets by what its data plane holds. */
    host: (machine: Machine) => Host,
    /** Starts its daemon on the given clock. */
    readonly boot: (machine: Machine, clock: ProcessClock) => Promise<RunningRole>,
  ) {
    this.ip = ip;
    this.kernel = watched(memoryDataPlane(), () => this.host.wireguard.sync());
    this.host = host(this);
    this.watch = new MemoryNetworkWatch(() => ({
      fingerprint: this.unplugged ? '' : `from ${this.ip}`,
      connected: !this.unplugged,
    }));
  }

  get awake(): boolean {
    return this.powered && !this.asleep;
  }

  /** Where its UDP seems to come from. */
  get publicIp(): IpAddress {
    return this.udpIp ?? this.ip;
  }

  receive(datagram: Datagram): void {
    this.host.receive(datagram);
  }

  /** So many connections more, or fewer, that its programs have open from an address. */
  connect(from: IpAddress, more: 1 | -1): void {
    const at = this.#connections.indexOf(from);
    if (more === 1) this.#connections.push(from);
    else if (at >= 0) this.#connections.splice(at, 1);
    this.kernel.setConnections(this.#connections);
  }

  get id(): PeerId {
    return this.identity.id;
  }

  get running(): RunningRole {
    if (this.process === undefined) throw new Error(`${this.name} is not running`);
    return this.process.role;
  }

  print(): string {
    return this.kernel.print();
  }

  /** Units of its kernel that belong to sessions: relay ports and WireGuard peers. */
  sessionUnits(): readonly string[] {
    return this.kernel
      .print()
      .split('\n')
      .filter((line) => /^(peer|relay) /.test(line));
  }

  /** What its store holds of sessions: ledger entries in force, and the supernode's own books. */
  sessionRecords(): readonly string[] {
    const { ledger, facts } = this.store;
    const inForce = ledger.sessions().filter((one) => one.desired.length > 0);
    return [
      ...inForce.map((one) => `ledger/${one.session}`),
      ...facts.names('front/'),
      ...facts.names('back/'),
      ...['session', 'tunnels'].filter((name) => facts.get(name) !== undefined),
    ];
  }
}

/** The same data plane; whatever changes it, by whatever hand, `changed` is called. */
function watched(kernel: MemoryDataPlane, changed: () => void): MemoryDataPlane {
  const { apply, reconcile, vandalise } = kernel;
  return Object.assign(kernel, {
    apply: async (change: UnitChange) => {
      const done = apply.call(kernel, change);
      changed();
      await done;
    },
    reconcile: async (desired: Parameters<DataPlane['reconcile']>[0]) => {
      const done = reconcile.call(kernel, desired);
      changed();
      return done;
    },
    vandalise: (id: Parameters<MemoryDataPlane['vandalise']>[0]) => {
      vandalise.call(kernel, id);
      changed();
    },
  });
}

/** The kernel as one process reaches it: a dead process changes nothing and hears nothing. */
export function kernelOf(machine: Machine, clock: Clock & { readonly alive: boolean }): DataPlane {
  const { kernel } = machine;
  const never = new Promise<never>(() => {});
  const change = async <T>(what: UnitChange | 'reconcile', act: () => Promise<T>): Promise<T> => {
    if (machine.kernelTakes > 0) await sleep(clock, machine.kernelTakes);
    if (!clock.alive) return never;
    machine.deed('kernel', 'before');
    if (!clock.alive) return never;
    const fault = machine.kernelFault(what);
    if (fault !== undefined) throw fault;
    const done = await act();
    machine.deed('kernel', 'after');
    if (machine.kernelTakes > 0) await sleep(clock, machine.kernelTakes);
    if (!clock.alive) return never;
    const lie = machine.kernelLie(what);
    if (lie !== undefined) throw lie;
    return done;
  };
  return {
    engine: kernel.engine,
    apply: (what) => change(what, () => kernel.apply(what)),
    reconcile: (desired) => change('reconcile', () => kernel.reconcile(desired)),
    observePeers: () => kernel.observePeers(),
    observeRelays: () => kernel.observeRelays(),
    traffic: (device) => (clock.alive ? kernel.traffic(device) : undefined),
    observePins: () => kernel.observePins(),
    observeEgress: () => kernel.observeEgress(),
    resetConnections: (from) => (clock.alive ? kernel.resetConnections(from) : never),
    openConnections: (from) => (clock.alive ? kernel.openConnections(from) : never),
    uplinks: () => kernel.uplinks(),
    lockedDown: () => kernel.lockedDown(),
    excludedPrograms: () => kernel.excludedPrograms(),
    inventory: () => kernel.inventory(),
    close: async () => {},
  };
}

/** The log of one process: a dead one says nothing. */
export function lineLog(
  lines: Line[],
  node: string,
  at: () => number,
  process: { readonly alive: boolean },
  inherited: LogFields = {},
): Log {
  const write =
    (level: Line['level']) =>
    (text: string, fields: LogFields = {}) =>
      void (process.alive && lines.push({ at: at(), node, level, text, fields: { ...inherited, ...fields } }));
  return {
    debug: () => {},
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: (fields) => lineLog(lines, node, at, process, { ...inherited, ...fields }),
  };
}
