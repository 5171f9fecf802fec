import t from 'tap';
import { minutes, seconds } from '../../src/model/time.js';
import { overlayWorld } from '../support/overlay-world.js';

const NOT_USED = /token was not used/;
const MAY_NOT = {
  code: 'wrong-role',
  message:
    'this supernode may not be an exit: enrol it with a token made with vpnd token create --role supernode --egress',
};

t.test('a supernode is an exit only while base says that it may be', async (t) => {
  const world = await overlayWorld({ supernodes: [{ region: 'us' }, { region: 'eu', egress: true }], exits: [] });
  const b = world.node('b');
  await world.up('c0', { region: 'eu' });
  t.match(world.way('c0'), { ok: true, exit: { name: 'b' } });
  await world.down('c0');
  const before = b.print();

  await world.giveToken('b', 'supernode', 'eu');
  await t.rejects(world.restart('b'), MAY_NOT);
  t.equal(b.print(), before, 'nothing was touched');
  await t.rejects(world.restart('b'), MAY_NOT, 'nor is it forgotten');

  await world.giveToken('b', 'supernode', 'eu', true);
  await world.restart('b');
  await world.untilConnected(['b']);
  await world.advance(seconds(5));
  await world.up('c0', { region: 'eu' });
  t.match(world.way('c0'), { ok: true, exit: { name: 'b' } });
  t.match((await world.status('base')).facts, { members: '3', supernodes: '2', exits: '0' }, 'it is the same node');
});

t.test('a supernode that may be an exit is none unless it is told to', async (t) => {
  const world = await overlayWorld({ exits: [] });
  await world.giveToken('b', 'supernode', 'eu', true);
  await world.restart('b');
  await world.untilConnected(['b', 'c0']);
  await world.advance(seconds(5));
  t.match(await world.refusal('c0', { region: 'eu' }), { code: 'no-exit' });
});

t.test('another token enrols a node anew, once', async (t) => {
  const world = await overlayWorld();
  const region = async () => (await world.status('x0')).region;
  await world.giveToken('x0', 'exit', 'us');
  await world.restart('x0');
  t.equal(await region(), 'us');
  t.match((await world.status('base')).facts, { members: '4', exits: '1' }, 'it is the same node');

  world.crash('base');
  const began = world.clock.now();
  await world.restart('x0');
  t.equal(world.clock.now(), began, 'with the token it has used it asks nobody');
  await world.untilConnected(['x0']);
  t.same(world.said('x0', NOT_USED), []);
});

t.test('a token that cannot be used stops no node that is enrolled', async (t) => {
  const world = await overlayWorld();
  await world.giveToken('x0', 'exit', 'us');
  world.crash('base');
  await world.restart('x0');
  await world.untilConnected(['x0']);
  t.equal((await world.status('x0')).region, 'eu');
  t.equal(world.said('x0', NOT_USED).length, 1);

  await world.restart('base');
  await world.restart('x0');
  t.equal((await world.status('x0')).region, 'us', 'it is used as soon as base is there');

  await world.giveToken('x0', 'client', 'us');
  await world.restart('x0');
  t.match(world.said('x0', NOT_USED).at(-1)?.fields.err, { code: 'wrong-role' });
  await world.advance(minutes(1));
  t.ok(await world.connected('x0'));
});
