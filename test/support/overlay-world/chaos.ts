import { Path } from '../../../src/gen/vpnd/v1/types_pb.js';
import { unitIdOf } from '../../../src/model/dataplane.js';
import { VpndError } from '../../../src/model/errors.js';
import { seconds } from '../../../src/model/time.js';
import type { OverlayWorld } from '../overlay-world.js';
import { seededRandom } from '../seeded-random.js';
import { violations } from './invariants.js';
import type { Machine } from './machine.js';
import type { NatKind } from './nat.js';

/** What may happen at a step; as often as it is named. */
export type Action =
  | 'up'
  | 'down'
  | 'rotate'
  | 'path'
  | 'crash'
  | 'power-off'
  | 'revive'
  | 'reset'
  | 'cut'
  | 'cut-control'
  | 'heal'
  | 'kernel'
  | 'disk'
  | 'move'
  | 'rebind'
  | 'freeze'
  | 'unplug'
  | 'uplink'
  | 'no-udp'
  | 'vandal';

/** Every daemon compares its kernel with what it should hold every thirty seconds. */
const COMPARED = 31_000;
const NATS: readonly NatKind[] = ['port-preserving', 'random', 'none'];

/** Anything may happen at any time, by chance from a seed. */
export class Chaos {
  /** What happened, for whoever wonders why. */
  readonly done: string[] = [];
  /** Clients whose user is waiting for an answer. */
  readonly #asking = new Map<string, object>();
  /** What is to be undone, by what it is. */
  readonly #faults = new Map<string, () => void>();
  /** When a kernel last refused a change: it is compared again within half a minute. */
  readonly #refused = new Map<string, number>();
  readonly #random;
  #moves = 0;

  constructor(
    private readonly world: OverlayWorld,
    seed: number,
    private readonly actions: readonly Action[],
    /** Regions that a client may ask for. */
    private readonly regionsOf: (client: string) => readonly (string | undefined)[] = () => [undefined, 'eu', 'ap'],
  ) {
    this.#random = seededRandom(seed);
  }

  async step(): Promise<void> {
    const action = this.#any(this.actions);
    const victim = this.#any(this.world.all());
    if (action !== undefined && victim !== undefined) await this.#act(action, victim);
    await this.world.advance(this.chance(12) === 0 ? seconds(40) : this.chance(4_000));
  }

  /** What is wrong with the world that nobody's fault explains. */
  wrong(): readonly string[] {
    const since = this.world.clock.monotonic() - COMPARED;
    const excused = [...this.#refused]
      .filter(([, at]) => at > since)
      .map(([name]) => `${name}: kernel and ledger differ`);
    const found = violations(this.world.all()).filter((what) => !excused.some((one) => what.startsWith(one)));
    return [...found, ...this.world.leaks];
  }

  /** Everything works again. */
  async stop(): Promise<void> {
    this.#heal();
    for (const machine of this.world.all()) {
      machine.kernelFault = () => undefined;
      machine.store.failWrites(undefined);
    }
    for (const { name, process } of this.world.all()) if (process === undefined) await this.world.restart(name);
  }

  /** Until nobody waits for an answer any more. */
  async settle(): Promise<void> {
    for (let n = 0; n < 150 && (n === 0 || this.#asking.size > 0); n++) await this.world.advance(seconds(1));
    if (this.#asking.size > 0) throw new Error(`no answer for ${[...this.#asking.keys()].join(', ')}`);
  }

  chance(below: number): number {
    return Math.floor(this.#random.fraction() * below);
  }

  async #act(action: Action, machine: Machine): Promise<void> {
    const { world } = this;
    const { name } = machine;
    const other = this.#any(world.all()) as Machine;
    const runs = machine.process !== undefined && machine.awake;
    switch (action) {
      case 'up':
      case 'down':
      case 'rotate':
      case 'path':
        return this.#ask(action);
      case 'revive':
        return this.#revive();
      case 'heal':
        return this.#heal();
      case 'crash':
      case 'power-off':
        if (!runs) return;
        this.#note(`${action} ${name}`);
        this.#asking.delete(name);
        return world.crash(name, action === 'crash' ? 'process' : 'power-off');
      case 'reset':
        this.#note(`reset ${name} ${other.name}`);
        return world.internet.reset(machine.ip, other.ip);
      case 'cut':
      case 'cut-control':
        if (other === machine) return;
        world.partition(name, other.name, action === 'cut' ? 'all' : 'control');
        return this.#fault(`${action} ${name} ${other.name}`, () => world.heal(name, other.name));
      case 'kernel':
        this.#note(`kernel of ${name} fails once`);
        machine.kernelFault = () => {
          machine.kernelFault = () => undefined;
          this.#refused.set(name, world.clock.monotonic());
          return new VpndError('dataplane', 'the kernel said no');
        };
        return;
      case 'disk':
        if (!runs || machine.role === 'base') return;
        this.#note(`disk of ${name} is full for a moment`);
        machine.store.failWrites(new VpndError('disk-full', 'no space left'));
        await world.advance(seconds(1));
        return machine.store.failWrites(undefined);
      case 'move':
        return this.#move(machine);
      case 'rebind':
        this.#note(`rebind ${name}`);
        return world.rebind(name);
      case 'freeze':
        if (!runs) return;
        world.sleep(name);
        return this.#fault(`freeze ${name}`, () => world.wake(name));
      case 'unplug':
        world.unplug(name);
        return this.#fault(`unplug ${name}`, () => world.plug(name));
      case 'uplink':
        if (machine.role !== 'exit' || !machine.uplink) return;
        world.cutUplink(name, (await this.#supervisorOf(machine))?.name);
        return this.#fault(`uplink ${name}`, () => world.mendUplink(name));
      case 'no-udp':
        if (machine.role !== 'client') return;
        world.blockUdp(name);
        return this.#fault(`no-udp ${name}`, () => world.blockUdp(name, false));
      case 'vandal':
        return runs ? this.#vandalise(machine) : undefined;
    }
  }

  #ask(what: 'up' | 'down' | 'rotate' | 'path'): void {
    const { world } = this;
    const free = world
      .of('client')
      .filter(({ name, process, awake }) => process !== undefined && awake && !this.#asking.has(name));
    const client = this.#any(free);
    if (client === undefined) return;
    const { name } = client;
    const region = this.#any(this.regionsOf(name));
    this.#note(`${what} ${name} ${what === 'up' ? (region ?? 'anywhere') : ''}`);
    const asked = {};
    this.#asking.set(name, asked);
    const answered = () => {
      if (this.#asking.get(name) === asked) this.#asking.delete(name);
    };
    const ask = {
      up: () => world.upSoon(name, region === undefined ? {} : { region }),
      down: () => world.downSoon(name),
      rotate: () => world.rotateSoon(name),
      path: () => world.pathSoon(name, this.#any([Path.DIRECT, Path.RELAY, Path.UNSPECIFIED]) ?? Path.DIRECT),
    };
    Promise.resolve(ask[what]()).then(answered, answered);
  }

  async #revive(): Promise<void> {
    const dead = this.#any(this.world.all().filter((one) => one.process === undefined));
    if (dead === undefined) return;
    this.#note(`start ${dead.name}`);
    dead.kernelFault = () => undefined;
    await this.world.restart(dead.name);
  }

  #move(machine: Machine): void {
    if (machine.role === 'base' || machine.role === 'supernode' || machine.process === undefined) return;
    // What is cut is cut by address.
    this.#heal();
    this.#note(`move ${machine.name}`);
    this.#moves++;
    const ip = `198.51.${101 + Math.floor(this.#moves / 250)}.${1 + (this.#moves % 250)}`;
    this.world.move(machine.name, ip, this.#any(NATS));
  }

  /** Somebody removes one thing of ours from a kernel: it is there again within half a minute. */
  async #vandalise(machine: Machine): Promise<void> {
    // Routes, rules and devices may all go: what holds the traffic is the kill switch. Until that is repaired packets do leave.
    const ids = machine.kernel.units().flatMap((unit) => (unit.kind === 'kill-switch' ? [] : [unitIdOf(unit)]));
    const id = this.#any(ids);
    if (id === undefined) return;
    this.#note(`${machine.name} loses ${id}`);
    machine.kernelFault = () => undefined;
    machine.kernel.vandalise(id);
    await this.world.advance(seconds(31));
  }

  async #supervisorOf(machine: Machine): Promise<Machine | undefined> {
    if (machine.process === undefined || !machine.awake) return undefined;
    const id = (await this.world.upstream(machine.name))?.supervisorId;
    return this.world.all().find((one) => one.id === id);
  }

  #fault(what: string, undo: () => void): void {
    this.#note(what);
    this.#faults.set(what, undo);
  }

  #heal(): void {
    if (this.#faults.size > 0) this.#note('everything heals');
    for (const undo of this.#faults.values()) undo();
    this.#faults.clear();
  }

  #any<T>(list: readonly T[]): T | undefined {
    return list[this.chance(list.length)];
  }

  #note(what: string): void {
    this.done.push(`${(this.world.clock.monotonic() / 1000).toFixed(1)} ${what}`);
  }
}
