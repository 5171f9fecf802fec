import t from 'tap';
import { VpndError } from '../../src/model/errors.js';
import { ms, seconds } from '../../src/model/time.js';
import { overlayWorld } from '../support/overlay-world.js';

/** A client in `us`, exits in two other regions. */
const scene = () =>
  overlayWorld({
    supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'ap' }],
    exits: [{ region: 'eu' }, { region: 'ap' }],
  });
const held = (print: string): boolean => /full-tunnel/.test(print);

t.test('another exit is asked for while a tunnel is up: nothing leaves outside a tunnel on the way', async (t) => {
  const world = await scene();
  await world.up('c0', { region: 'eu' });
  let leaked = false;
  world.node('x1').kernelTakes = ms(400);
  const asked = world.upSoon('c0', { region: 'ap' });
  for (let n = 0; n < 60; n++) {
    leaked ||= !held(world.node('c0').print());
    await world.advance(50);
  }
  await world.clock.run(asked);
  t.notOk(leaked);
  t.match(world.way('c0'), { ok: true, exit: { name: 'x1' } });
  await world.advance(seconds(5));
  t.same(world.node('x0').sessionUnits(), [], 'the first exit is told');
  await world.down('c0');
  t.same(world.residue(), []);
});

t.test('another exit that cannot be had: the user hears why, and what was wished for before comes back', async (t) => {
  const world = await scene();
  await world.up('c0', { region: 'eu' });
  t.match(await world.refusal('c0', { region: 'moon' }), { code: 'no-exit', message: /no region 'moon'/ });
  t.ok(held(world.node('c0').print()));
  await world.advance(seconds(10));
  t.match(world.way('c0'), { ok: true, exit: { name: 'x0' } });
  t.match(await world.session('c0'), { state: 'up' });
  await world.restart('c0');
  await world.advance(seconds(10));
  t.match(world.way('c0'), { ok: true, exit: { name: 'x0' } }, 'the next process wants the same');
  await world.down('c0');
  await world.advance(seconds(10));
  t.same(world.residue(), []);
  t.equal(world.node('c0').print(), '');
});

t.test('a first exit that cannot be had leaves no routes behind', async (t) => {
  const world = await scene();
  t.match(await world.refusal('c0', { region: 'moon' }), { code: 'no-exit' });
  t.equal(world.node('c0').print(), '');
  await world.advance(seconds(60));
  t.equal(world.node('c0').print(), '', 'and is not asked for again');
});

t.test('vpnd down while another exit is being asked for', async (t) => {
  const world = await scene();
  await world.up('c0', { region: 'eu' });
  world.node('x1').kernelTakes = ms(400);
  const asked = world.refusal('c0', { region: 'ap' });
  await world.advance(100);
  await world.down('c0');
  t.match(await asked, { code: 'closed' });
  t.equal(world.node('c0').print(), '');
  await world.advance(seconds(60));
  t.equal(world.node('c0').print(), '', 'nothing comes back by itself');
  t.same(world.residue(), []);
});

t.test(
  'a client that dies while another exit is being asked for holds its traffic, and goes on with what was',
  async (t) => {
    const world = await scene();
    await world.up('c0', { region: 'eu' });
    world.node('x1').kernelTakes = ms(400);
    void world.upSoon('c0', { region: 'ap' });
    await world.advance(100);
    world.crash('c0');
    t.ok(held(world.node('c0').print()));
    await world.advance(seconds(5));
    await world.restart('c0');
    t.ok(held(world.node('c0').print()));
    await world.advance(seconds(15));
    t.match(world.way('c0'), { ok: true, exit: { name: 'x0' } });
    await world.down('c0');
    await world.advance(seconds(60));
    t.same(world.residue(), []);
  },
);

t.test('the supernodes that may be reached outside the tunnel follow the directory', async (t) => {
  const world = await overlayWorld();
  await world.up('c0');
  const exempt = () =>
    [
      ...world
        .node('c0')
        .print()
        .matchAll(/tcp ([0-9.]+):443/g),
    ]
      .map(([, ip]) => ip)
      // For as long as it is asked something.
      .filter((ip) => ip !== world.base.ip);
  // By the routes, and by the kill switch.
  const both = [world.node('a').ip, world.node('b').ip];
  t.same(exempt(), [...both, ...both]);
  world.node('c0').kernelFault = () => new VpndError('dataplane', 'nft is busy');
  await world.advance(seconds(15));
  world.node('c0').kernelFault = () => undefined;
  await world.advance(seconds(15));
  t.same(exempt(), [...both, ...both]);
  t.match(world.way('c0'), { ok: true });
});
