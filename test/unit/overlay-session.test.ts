import t from 'tap';
import { overlayWorld } from '../support/overlay-world.js';

t.test('connect and disconnect leave nothing of the session anywhere', async (t) => {
  const world = await overlayWorld();
  const before = world.print();
  await world.up('c0', { region: 'eu' });
  t.match(world.way('c0'), { ok: true });
  t.match(await world.session('c0'), { state: 'up' });
  t.not(world.print(), before);
  t.match(await world.down('c0'), { wasUp: true, releasedEverywhere: true });
  t.same(world.residue(), []);
  t.equal(world.print(), before);
});
