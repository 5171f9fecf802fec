import t from 'tap';
import { minutes, seconds } from '../../src/model/time.js';
import { type Action, Chaos } from '../support/overlay-world/chaos.js';
import { overlayWorld } from '../support/overlay-world.js';

/**
 * Daemons die and come back, streams break, calls fail, disks fill, for minutes and in no order: as long as kernels and
 * networks are well, no packet of any session is lost. `SEEDS=7 node …` replays one run.
 */
const [FROM = 1, TO = FROM] = (process.env.SEEDS ?? '1-8').split('-').map(Number);
const STEPS = Number(process.env.STEPS ?? 60);

const CONTROL: readonly Action[] = ['crash', 'revive', 'revive', 'reset', 'cut-control', 'heal', 'heal', 'disk'];

for (let seed = FROM; seed <= TO; seed++) {
  t.test(`seed ${seed}`, async (t) => {
    // Over relays or direct; not where it is tried and does not work, which costs a second.
    const privacy = seed % 2 === 0 ? ('auto' as const) : ('private' as const);
    const world = await overlayWorld({
      seed,
      supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'ap' }],
      exits: ['eu', 'ap', 'eu'].map((region) => ({ region })),
      clients: ['us', 'eu', 'us'].map((region, n) => ({ region, privacy, standby: n < 2 })),
    });
    const names = world.of('client').map(({ name }) => name);
    for (const name of names) await world.up(name);
    // Paths are found, and standbys stand by.
    await world.advance(seconds(40));
    const traffic = names.map((name) => world.traffic(name, 5));
    const chaos = new Chaos(world, seed, CONTROL);
    const found = () => [
      ...chaos.wrong(),
      ...traffic.flatMap(({ lost }, n) => (lost === 0 ? [] : [`${names[n]} lost ${lost}`])),
    ];
    for (let n = 0; n < STEPS && found().length === 0; n++) await chaos.step();
    if (found().length === 0) {
      await chaos.stop();
      await world.advance(minutes(3));
    }
    t.same(found(), [], chaos.done.join('\n'));
    for (const name of names) t.ok(world.way(name).ok);
  });
}
