import t from 'tap';
import { VpndError } from '../../src/model/errors.js';
import { minutes, seconds } from '../../src/model/time.js';
import { violations } from '../support/overlay-world/invariants.js';
import { type Machine, type OverlayWorld, overlayWorld } from '../support/overlay-world.js';
import { seededRandom } from '../support/seeded-random.js';

/**
 * Anything may happen at any time, by chance from a seed; what must always hold is looked at after every step, and what
 * must hold in the end after the faults have stopped. `SEEDS=7 node …/overlay-chaos.test.js` replays one run,
 * `SEEDS=1-200 CLIENTS=20 STEPS=400` looks further.
 */
const SEEDS = range(process.env.SEEDS ?? '1-20');
const CLIENTS = Number(process.env.CLIENTS ?? 8);
const STEPS = Number(process.env.STEPS ?? 60);
const LEASE = minutes(2);
/** A client notices within three minutes that nothing passes, and waits at most 30 s between tries. */
const CONVERGES = minutes(5);

function range(text: string): readonly number[] {
  const [from = 1, to = from] = text.split('-').map(Number);
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

class Chaos {
  readonly done: string[] = [];
  /** Clients whose user is waiting for an answer. */
  readonly #asking = new Map<string, object>();
  readonly #cuts: (() => void)[] = [];
  #moves = 0;
  readonly #random;

  constructor(
    private readonly world: OverlayWorld,
    seed: number,
  ) {
    this.#random = seededRandom(seed);
  }

  #chance(below: number): number {
    return Math.floor(this.#random.fraction() * below);
  }

  #any<T>(list: readonly T[]): T | undefined {
    return list[this.#chance(list.length)];
  }

  async step(): Promise<void> {
    const { world } = this;
    const action = this.#any([
      'up',
      'up',
      'up',
      'down',
      'crash',
      'revive',
      'revive',
      'reset',
      'cut',
      'heal',
      'kernel',
      'disk',
      'move',
    ]);
    const machine = this.#any(world.all()) as Machine;
    switch (action) {
      case 'up':
      case 'down':
        this.#ask(action);
        break;
      case 'crash':
        if (machine.process === undefined) break;
        this.#note(`crash ${machine.name}`);
        this.#asking.delete(machine.name);
        world.crash(machine.name, this.#chance(3) === 0 ? 'power-off' : 'process');
        break;
      case 'revive':
        await this.#revive();
        break;
      case 'reset': {
        const other = this.#any(world.all()) as Machine;
        this.#note(`reset ${machine.name} ${other.name}`);
        world.internet.reset(machine.ip, other.ip);
        break;
      }
      case 'cut': {
        const other = this.#any(world.all()) as Machine;
        if (other === machine) break;
        const [a, b] = [machine.name, other.name];
        this.#note(`cut ${a} ${b}`);
        world.partition(a, b, this.#chance(2) === 0 ? 'control' : 'all');
        this.#cuts.push(() => world.heal(a, b));
        break;
      }
      case 'heal':
        this.#heal();
        break;
      case 'kernel':
        this.#note(`kernel of ${machine.name} fails once`);
        machine.kernelFault = () => {
          machine.kernelFault = () => undefined;
          return new VpndError('dataplane', 'the kernel said no');
        };
        break;
      case 'disk':
        if (machine.process === undefined || machine.role === 'base') break;
        this.#note(`disk of ${machine.name} is full for a moment`);
        machine.store.failWrites(new VpndError('disk-full', 'no space left'));
        await world.advance(seconds(1));
        machine.store.failWrites(undefined);
        break;
      case 'move':
        if (machine.role !== 'client' || machine.process === undefined) break;
        this.#heal();
        this.#note(`move ${machine.name}`);
        this.#moves++;
        world.move(machine.name, `198.51.${101 + Math.floor(this.#moves / 250)}.${1 + (this.#moves % 250)}`);
        break;
    }
    await world.advance(this.#chance(12) === 0 ? seconds(40) : this.#chance(4_000));
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

  async settle(): Promise<void> {
    for (let n = 0; n < 100 && this.#asking.size > 0; n++) await this.world.advance(seconds(1));
    if (this.#asking.size > 0) throw new Error(`no answer for ${[...this.#asking.keys()].join(', ')}`);
  }

  #ask(what: 'up' | 'down'): void {
    const { world } = this;
    const free = world.of('client').filter(({ name, process }) => process !== undefined && !this.#asking.has(name));
    const client = this.#any(free);
    if (client === undefined) return;
    const { name } = client;
    const region = this.#any([undefined, 'eu', 'ap']);
    this.#note(`${what} ${name} ${what === 'up' ? (region ?? 'anywhere') : ''}`);
    const asked = {};
    this.#asking.set(name, asked);
    const answered = () => {
      if (this.#asking.get(name) === asked) this.#asking.delete(name);
    };
    const { up, down } = client.running.local;
    if (up === undefined || down === undefined) throw new Error(`${name} is no client`);
    const work = what === 'up' ? world.upSoon(name, region === undefined ? {} : { region }) : down();
    Promise.resolve(work).then(answered, answered);
  }

  async #revive(): Promise<void> {
    const dead = this.#any(this.world.all().filter((one) => one.process === undefined));
    if (dead === undefined) return;
    this.#note(`start ${dead.name}`);
    dead.kernelFault = () => undefined;
    await this.world.restart(dead.name);
  }

  #heal(): void {
    for (const heal of this.#cuts.splice(0)) heal();
  }

  #note(what: string): void {
    this.done.push(`${(this.world.clock.monotonic() / 1000).toFixed(1)} ${what}`);
  }
}

for (const seed of SEEDS) {
  t.test(`seed ${seed}`, async (t) => {
    const world = await overlayWorld({
      seed,
      lease: LEASE,
      supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'ap', egress: seed % 2 === 0 }],
      exits: [{ region: 'eu' }, { region: 'eu', sessionCapacity: 3 }, { region: 'ap' }],
      clients: Array.from({ length: CLIENTS }, (_, i) => ({ region: ['us', 'us', 'eu', 'ap'][i % 4] ?? 'us' })),
    });
    const chaos = new Chaos(world, seed);
    const fails = (what: string, found: readonly string[]): boolean => {
      if (found.length > 0) t.fail(`seed ${seed}: ${what}`, { found, done: chaos.done });
      return found.length > 0;
    };
    for (let n = 0; n < STEPS; n++) {
      await chaos.step();
      if (fails(`after step ${n}`, violations(world.all()))) return;
    }

    await chaos.stop();
    await chaos.settle();
    const wanted = world.of('client').filter((one) => one.store.facts.get('wish') !== undefined);
    for (let waited = 0; waited < CONVERGES && wanted.some(({ name }) => !world.way(name).ok); waited += seconds(5))
      await world.advance(seconds(5));
    const lost = wanted.filter(({ name }) => !world.way(name).ok);
    if (
      fails(
        'a client that wants a tunnel has none',
        lost.map((one) => `${one.name}: ${JSON.stringify(world.way(one.name))}`),
      )
    )
      return;
    for (const { name } of world.of('client')) await world.down(name);
    await world.advance(LEASE + minutes(1));
    const left = world.residue();
    const ports = await Promise.all(world.of('supernode').map(async ({ name }) => (await world.status(name)).facts));
    const taken = ports.flatMap((facts) =>
      / 0 in use/.test(facts?.relay_ports ?? '') ? [] : [facts?.relay_ports ?? ''],
    );
    if (fails('something is left', [...left, ...taken])) return;
    const errors = world.lines.filter((line) => line.level === 'error' && line.fields.err instanceof TypeError);
    if (
      fails(
        'a daemon broke inside',
        errors.map((line) => `${line.node}: ${line.text}: ${line.fields.err}`),
      )
    )
      return;
    t.pass(`${wanted.length} of ${CLIENTS} clients came through ${chaos.done.length} events with a tunnel`);
  });
}
