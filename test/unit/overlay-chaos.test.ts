import t from 'tap';
import { minutes, seconds } from '../../src/model/time.js';
import { type Action, Chaos } from '../support/overlay-world/chaos.js';
import type { NatKind } from '../support/overlay-world/nat.js';
import { overlayWorld } from '../support/overlay-world.js';

/**
 * Anything may happen at any time, by chance from a seed; what must always hold is looked at after every step, and what
 * must hold in the end after the faults have stopped. `SEEDS=7 node …/overlay-chaos.test.js` replays one run,
 * `SEEDS=1-200 CLIENTS=20 STEPS=400` looks further.
 */
const SEEDS = range(process.env.SEEDS ?? '1-12');
const CLIENTS = Number(process.env.CLIENTS ?? 6);
const STEPS = Number(process.env.STEPS ?? 60);
const LEASE = minutes(2);
/** A client that lost everything waits at most 30 s between tries, and an exit that failed is asked for last a while. */
const CONVERGES = minutes(5);

const EVERYTHING: readonly Action[] = [
  ...(['up', 'up', 'up', 'up', 'down', 'rotate', 'path'] as const),
  ...(['crash', 'power-off', 'revive', 'revive', 'reset', 'cut', 'cut-control', 'heal', 'heal'] as const),
  ...(['kernel', 'disk', 'move', 'rebind', 'freeze', 'unplug', 'uplink', 'no-udp', 'vandal'] as const),
];
const NATS: readonly NatKind[] = ['port-preserving', 'random', 'none'];

/** In the region that has no exits: its own supernode must not be the exit's. */
const isPrivate = (client: number): boolean => client % 4 === 1;

function range(text: string): readonly number[] {
  const [from = 1, to = from] = text.split('-').map(Number);
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

for (const seed of SEEDS) {
  t.test(`seed ${seed}`, async (t) => {
    const nat = (n: number) => NATS[(seed + n) % NATS.length] ?? 'none';
    const world = await overlayWorld({
      seed,
      lease: LEASE,
      supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'ap', egress: seed % 2 === 0 }],
      exits: [
        { region: 'eu', nat: nat(0) },
        { region: 'eu', sessionCapacity: 3, nat: nat(1) },
        { region: 'ap', nat: nat(2) },
      ],
      clients: Array.from({ length: CLIENTS }, (_, i) => ({
        region: ['us', 'us', 'eu', 'ap'][i % 4] ?? 'us',
        standby: i % 2 === 0,
        nat: nat(i),
        privacy: isPrivate(i) ? 'private' : 'auto',
      })),
    });
    // One region's exits may all be where two relays cannot be had.
    const regionsOf = (name: string) => (isPrivate(Number(name.slice(1))) ? [undefined] : [undefined, 'eu', 'ap']);
    const chaos = new Chaos(world, seed, EVERYTHING, regionsOf);
    const traffic = new Map(world.of('client').map(({ name }) => [name, world.traffic(name, 2)]));
    const fails = (what: string, found: readonly string[]): boolean => {
      if (found.length > 0) t.fail(`seed ${seed}: ${what}`, { found, done: chaos.done });
      return found.length > 0;
    };
    for (let n = 0; n < STEPS; n++) {
      await chaos.step();
      if (fails(`after step ${n}`, chaos.wrong())) return;
    }

    await chaos.stop();
    await chaos.settle();
    const healed = world.clock.monotonic();
    const wanted = world.of('client').filter((one) => one.store.facts.get('wish') !== undefined);
    const passes = (name: string) =>
      world.way(name).ok && (traffic.get(name)?.resumedAfter(world.clock.monotonic() - 3_000) ?? 3_000) < 3_000;
    while (world.clock.monotonic() - healed < CONVERGES && wanted.some(({ name }) => !passes(name)))
      await world.advance(seconds(5));
    const lost = wanted.filter(({ name }) => !passes(name));
    const why = (name: string) => {
      const way = world.way(name);
      return `${name}: ${way.ok ? `no answer over ${way.hops.join(' ')}` : way.why}`;
    };
    if (
      fails(
        'a client that wants a tunnel has none',
        lost.map(({ name }) => why(name)),
      )
    )
      return;
    const took = world.clock.monotonic() - healed;
    if (fails('in the end', chaos.wrong())) return;

    for (const one of traffic.values()) one.stop();
    for (const { name } of world.of('client')) await world.down(name);
    await world.advance(LEASE + minutes(1));
    const ports = await Promise.all(world.of('supernode').map(async ({ name }) => (await world.status(name)).facts));
    const taken = ports.flatMap((facts) =>
      / 0 in use/.test(facts?.relay_ports ?? '') ? [] : [facts?.relay_ports ?? ''],
    );
    if (fails('something is left', [...world.residue(), ...taken])) return;
    const errors = world.lines.filter((line) => line.level === 'error' && line.fields.err instanceof TypeError);
    const inside = errors.map((line) => `${line.node}: ${line.text}: ${line.fields.err}`);
    if (fails('a daemon broke inside', inside)) return;
    t.pass(
      `${wanted.length} of ${CLIENTS} clients came through ${chaos.done.length} events; all passed after ${took} ms`,
    );
  });
}
