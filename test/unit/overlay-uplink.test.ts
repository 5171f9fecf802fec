import t from 'tap';
import { seconds } from '../../src/model/time.js';
import { inRegion } from '../support/overlay-world/drain.js';
import { overlayWorld } from '../support/overlay-world.js';

t.test(
  'an exit whose own internet is gone says so: its clients leave it, and nobody comes until it is back',
  async (t) => {
    const world = await overlayWorld({ exits: inRegion('eu', 2), clients: inRegion('us', 2) });
    await world.up('c0', { exit: world.node('x0').id });
    await world.down('c0');
    await world.up('c0');
    const way = world.way('c0');
    const lost = way.ok ? way.exit.name : '';
    await world.advance(seconds(10));
    world.cutUplink(lost, 'b');
    await world.advance(seconds(12));
    t.match((await world.status(lost)).problems, [/has lost the internet/]);
    const moved = world.way('c0');
    t.ok(moved.ok);
    t.not(moved.ok && moved.exit.name, lost);
    await world.up('c1');
    const other = world.way('c1');
    t.not(other.ok && other.exit.name, lost, 'a new session goes elsewhere too');
    t.match(world.said('b', /internet is gone/).length, 1);

    world.mendUplink(lost);
    await world.advance(seconds(10));
    t.same((await world.status(lost)).problems, []);
    await world.down('c1');
    t.equal(await world.refusal('c1', { exit: world.node(lost).id }), undefined);
  },
);

t.test(
  'the only exit there is loses the internet, or thinks so: its client stays, and who names it gets it',
  async (t) => {
    const world = await overlayWorld({ clients: inRegion('us', 2) });
    await world.up('c0');
    const session = (await world.session('c0'))?.sessionId;
    await world.advance(seconds(10));
    world.cutUplink('x0', 'b');
    await world.advance(seconds(30));
    t.match((await world.status('x0')).problems, [/has lost the internet/]);
    world.mendUplink('x0');
    await world.advance(seconds(1));
    t.match(await world.refusal('c1'), { code: 'no-exit' });
    t.equal(await world.refusal('c1', { exit: world.node('x0').id }), undefined);
    await world.advance(seconds(10));
    t.match(world.way('c0'), { ok: true });
    t.equal((await world.session('c0'))?.sessionId, session);
  },
);

t.test('an exit without a default route says so at once', async (t) => {
  const world = await overlayWorld({ exits: inRegion('eu', 2) });
  await world.up('c0');
  const way = world.way('c0');
  const lost = way.ok ? way.exit.name : '';
  world.node(lost).kernel.setUplinks({ ipv4: false, ipv6: false });
  await world.advance(seconds(10));
  t.match((await world.status(lost)).problems, [/there is no default route/]);
  const moved = world.way('c0');
  t.not(moved.ok && moved.exit.name, lost);
});

t.test('base and the other supernode go down one after the other: no exit takes that for its own fault', async (t) => {
  const world = await overlayWorld({ supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'eu' }] });
  world.crash('base');
  await world.advance(seconds(30));
  t.same((await world.status('x0')).problems, []);
  world.crash('a');
  await world.advance(seconds(30));
  t.same((await world.status('x0')).problems, [], 'their kernels answer');
});
