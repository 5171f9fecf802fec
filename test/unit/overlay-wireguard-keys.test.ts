import t, { type Test } from 'tap';
import { Path } from '../../src/gen/vpnd/v1/types_pb.js';
import type { Endpoint } from '../../src/model/address.js';
import { VpndError } from '../../src/model/errors.js';
import { hours, minutes, ms, seconds } from '../../src/model/time.js';
import { standbyReady, warm } from '../support/overlay-world/scenes.js';
import { type OverlayWorld, overlayWorld, type WorldOptions } from '../support/overlay-world.js';

const PUBLIC = { ip: '203.0.113.10', port: 51_821 } as Endpoint;

/** Private keys of an exit's interfaces, by interface. */
const devices = (world: OverlayWorld, exit = 'x0'): Readonly<Record<string, string>> =>
  Object.fromEntries(
    world
      .node(exit)
      .kernel.units()
      .flatMap((unit) => (unit.kind === 'device' ? [[unit.name, unit.privateKey]] : [])),
  );

/** The private key that new sessions get. */
const currentKey = (world: OverlayWorld, exit = 'x0'): string => world.node(exit).wireguard.privateKey;

/** All that a node's disk and kernel hold, as text. */
function everything(world: OverlayWorld, name: string): string {
  const { store, kernel } = world.node(name);
  const facts = store.facts.names('').map((fact) => JSON.stringify(store.facts.get(fact)));
  return [...facts, JSON.stringify(store.ledger.sessions()), JSON.stringify(kernel.units())].join('\n');
}

/** The exit's public key that the client's active tunnel is with. */
function keyInUse(world: OverlayWorld, name = 'c0'): string | undefined {
  const client = world.node(name);
  const units = client.kernel.units();
  const active = units.find((unit) => unit.kind === 'full-tunnel' && unit.use === 'active');
  return units.flatMap((unit) =>
    unit.kind === 'peer' && active?.kind === 'full-tunnel' && unit.device === active.device ? [unit.publicKey] : [],
  )[0];
}

/** One key, one interface, nothing of `old` anywhere, and the client's packets get through with it. */
function isOver(t: Test, world: OverlayWorld, old: string, exit = 'x0'): void {
  t.same(Object.values(devices(world, exit)), [currentKey(world, exit)], 'one interface, with the new key');
  t.not(currentKey(world, exit), old);
  t.notOk(everything(world, exit).includes(old), 'nothing is left of the old key');
  t.equal(keyInUse(world), world.node(exit).wireguard.publicKey);
  t.match(world.way('c0'), { ok: true });
}

/** The exit's keys become older while its daemon is away: a day of packets is much to count. */
async function later(world: OverlayWorld, by: number, exit = 'x0'): Promise<void> {
  world.crash(exit);
  const { facts } = world.node(exit).store;
  const text = JSON.stringify(facts.get('wireguard-keys'));
  const older = text.replace(/("(?:since|retiringSince)":)(\d+)/g, (_, name, at) => `${name}${Number(at) - by}`);
  facts.put('wireguard-keys', JSON.parse(older));
  await world.restart(exit);
  await world.untilConnected([exit]);
}

// ——— every way

for (const [what, options] of Object.entries<WorldOptions>({
  'over two supernodes': { clients: [{ region: 'us', privacy: 'private' }] },
  'direct behind NAT': {},
  'over one supernode': {
    supernodes: [{ region: 'us' }],
    exits: [{ region: 'us', nat: 'random' }],
    clients: [{ region: 'us', nat: 'random' }],
  },
  'direct to a public address': {
    exits: [{ region: 'eu', nat: 'none', publicEndpoint: PUBLIC, wireguardPort: PUBLIC.port }],
  },
})) {
  t.test(`${what}: the client goes over to the new key, and nothing is lost`, async (t) => {
    const world = await overlayWorld(options);
    await world.up('c0');
    if (what === 'over one supernode') await world.setPath('c0', Path.RELAY);
    await world.advance(seconds(5));
    const old = currentKey(world);
    const before = keyInUse(world);
    const clientKey = world.way('c0');
    t.ok(clientKey.ok);
    const traffic = world.traffic('c0', 20);
    await world.advance(seconds(2));
    await world.rotateKey('x0', 'wireguard');
    t.equal(Object.keys(devices(world)).length, 2, 'both keys are in use');
    t.match((await world.status('x0')).facts?.wireguard_key, /the one before has 1 session left/);
    await world.until('the client is with another key', () => keyInUse(world) !== before, seconds(10));
    // What was open on the old one has two minutes; with a port, there is another key to come.
    await world.advance(minutes(6));
    isOver(t, world, old);
    t.equal(traffic.lost, 0, 'no packet is lost');
    traffic.stop();
    t.ok(world.events('x0').includes('key-rotated'));
    t.ok(world.events('x0').includes('key-retired'));
    t.same(world.leaks, []);
    await world.down('c0');
    await world.advance(seconds(5));
    t.same(world.residue(), []);
  });
}

t.test('a configured port belongs to the key in use again, and clients come straight to it', async (t) => {
  const world = await overlayWorld({
    exits: [{ region: 'eu', nat: 'none', publicEndpoint: PUBLIC, wireguardPort: PUBLIC.port }],
    clients: [{ region: 'us' }, { region: 'us' }],
  });
  await world.up('c0');
  await world.rotateKey('x0', 'wireguard');
  // While the old key has the port, whoever is new is served over relays.
  await world.advance(seconds(5));
  await world.up('c1');
  t.match(world.way('c1'), { ok: true });
  await world.advance(minutes(8));
  const [device] = world
    .node('x0')
    .kernel.units()
    .filter((unit) => unit.kind === 'device');
  t.match(device, { name: 'wg-exit', listenPort: PUBLIC.port });
  await world.down('c1');
  await world.up('c1');
  t.match(await world.session('c1'), { endpoint: PUBLIC, path: Path.DIRECT });
  t.match(world.way('c1'), { ok: true });
});

t.test('a standby is with the new key, too', async (t) => {
  const world = await warm({ nat: 'random' });
  const traffic = world.traffic('c0', 20);
  for (const exit of ['x0', 'x1', 'x2']) await world.rotateKey(exit, 'wireguard');
  await world.advance(minutes(6));
  await standbyReady(world);
  for (const exit of ['x0', 'x1', 'x2']) t.equal(Object.keys(devices(world, exit)).length, 1, exit);
  t.equal(traffic.lost, 0);
  t.match(world.way('c0'), { ok: true });
  await world.down('c0');
});

// ——— the schedule

t.test('by the schedule: sessions have an hour to end by themselves', async (t) => {
  const world = await overlayWorld({ exits: [{ region: 'eu', wireguardKeyEvery: hours(2) }] });
  await world.up('c0');
  await world.advance(seconds(5));
  const traffic = world.traffic('c0', 1);
  const old = currentKey(world);
  const before = keyInUse(world);
  await later(world, hours(2) - minutes(2));
  await world.advance(minutes(1));
  t.equal(Object.keys(devices(world)).length, 1, 'not yet');
  await world.advance(minutes(2));
  t.equal(Object.keys(devices(world)).length, 2);
  await later(world, minutes(50));
  await world.advance(minutes(5));
  t.equal(keyInUse(world), before, 'nobody asks it to move');
  await world.advance(minutes(10));
  isOver(t, world, old);
  t.equal(traffic.lost, 0);
  traffic.stop();
  t.match(world.said('x0', /another WireGuard key/), [{ text: /wireguard-key-every/ }]);
});

t.test('a session keeps its key while its lease and its pre-shared key are renewed', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }], lease: minutes(6) });
  await world.up('c0');
  await world.advance(seconds(5));
  const traffic = world.traffic('c0', 2);
  const old = currentKey(world);
  const before = keyInUse(world);
  await world.rotateKey('x0', 'wireguard', { now: false });
  await world.advance(minutes(14));
  t.equal(keyInUse(world), before);
  t.equal(traffic.lost, 0);
  t.match(world.way('c0'), { ok: true });
  t.equal(Object.values(devices(world))[0], old);
  traffic.stop();
});

t.test('a session that cannot be moved ends after a day, and the key with it', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }], lease: hours(12) });
  await world.up('c0');
  let asked = 0;
  world.node('a').tampering.sends = (message) => {
    if (message.kind !== 'command' || message.command.desired.kind !== 'rotate-peer') return message;
    asked++;
    return undefined;
  };
  const old = currentKey(world);
  const session = (await world.session('c0'))?.sessionId;
  await world.rotateKey('x0', 'wireguard');
  await world.advance(minutes(21));
  await later(world, hours(23));
  await world.advance(minutes(10));
  t.equal((await world.session('c0'))?.sessionId, session, 'it goes on for a day');
  t.ok(asked > 5, `it is asked again and again: ${asked} times`);
  await later(world, minutes(30));
  await world.advance(minutes(3));
  isOver(t, world, old);
  t.not((await world.session('c0'))?.sessionId, session, 'the client has another session');
});

t.test('one after the other: the key before has to be gone', async (t) => {
  const world = await overlayWorld();
  await world.up('c0');
  await world.rotateKey('x0', 'wireguard', { now: false });
  t.match(await world.outcome(world.rotateKeySoon('x0', 'wireguard')), { code: 'draining' });
  await world.down('c0');
  await world.advance(seconds(5));
  await world.rotateKey('x0', 'wireguard');
  t.match(await world.outcome(world.rotateKeySoon('x0', 'ca')), { code: 'not-supported' });
});

// ——— what goes wrong

t.test('a new key that cannot be brought up leaves all as it was', async (t) => {
  const world = await overlayWorld();
  await world.up('c0');
  await world.advance(seconds(5));
  const traffic = world.traffic('c0', 20);
  const old = currentKey(world);
  const exit = world.node('x0');
  let left = 0;
  exit.kernelFault = (change) =>
    change === 'reconcile' && left-- === 0 ? new VpndError('dataplane', 'no device') : undefined;
  for (const at of [0, 1]) {
    left = at;
    t.match(await world.outcome(world.rotateKeySoon('x0', 'wireguard')), { code: 'dataplane' }, `change ${at}`);
    t.equal(currentKey(world), old);
    t.same(Object.values(devices(world)), [old]);
    await world.advance(seconds(40));
    t.match(world.way('c0'), { ok: true });
  }
  exit.kernelFault = () => undefined;
  exit.store.failWrites(new VpndError('disk-full', 'no room'));
  t.match(await world.outcome(world.rotateKeySoon('x0', 'wireguard')), { code: 'disk-full' });
  exit.store.failWrites(undefined);
  t.same(Object.values(devices(world)), [old]);
  await world.rotateKey('x0', 'wireguard');
  await world.advance(minutes(4));
  isOver(t, world, old);
  t.equal(traffic.lost, 0);
  traffic.stop();
});

t.test('the exit dies at any moment of it and comes back: nothing is lost', async (t) => {
  for (const after of [0, 30, 50, 70, 90, 150, 1_000, 123_000]) {
    const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }] });
    await world.up('c0');
    await world.advance(seconds(5));
    const traffic = world.traffic('c0', 10);
    const old = currentKey(world);
    const exit = world.node('x0');
    exit.kernelTakes = ms(20);
    world.rotateKeySoon('x0', 'wireguard').catch(() => {});
    await world.advance(after);
    world.crash('x0');
    await world.advance(seconds(3));
    await world.restart('x0');
    await world.advance(minutes(8));
    exit.kernelTakes = ms(0);
    t.equal(traffic.lost, 0, `after ${after} ms`);
    t.match(world.way('c0'), { ok: true });
    t.equal(Object.keys(devices(world)).length, 1, 'one interface');
    t.same(Object.values(devices(world)), [currentKey(world)]);
    if (currentKey(world) !== old) isOver(t, world, old);
    traffic.stop();
  }
});

t.test('after a power cut at any moment of it the exit serves again, with one key in the end', async (t) => {
  for (const after of [0, 30, 70, 150, 60_000]) {
    const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }] });
    await world.up('c0');
    await world.advance(seconds(5));
    const exit = world.node('x0');
    exit.kernelTakes = ms(20);
    world.rotateKeySoon('x0', 'wireguard').catch(() => {});
    await world.advance(after);
    world.crash('x0', 'power-off');
    await world.advance(seconds(5));
    await world.restart('x0');
    await world.advance(minutes(9));
    exit.kernelTakes = ms(0);
    t.match(world.way('c0'), { ok: true }, `after ${after} ms`);
    t.same(Object.values(devices(world)), [currentKey(world)]);
  }
});

for (const name of ['a', 'b', 'c0']) {
  t.test(`${name} dies while sessions move, and comes back`, async (t) => {
    for (const after of [0, 100]) {
      const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }] });
      await world.up('c0');
      await world.advance(seconds(5));
      const traffic = world.traffic('c0', 10);
      const old = currentKey(world);
      await world.rotateKey('x0', 'wireguard');
      await world.advance(after);
      world.crash(name);
      await world.advance(seconds(3));
      await world.restart(name);
      await world.advance(minutes(12));
      t.equal(traffic.lost, 0, `after ${after} ms`);
      isOver(t, world, old);
      traffic.stop();
    }
  });
}

t.test('base and all supernodes’ streams away: sessions stay on the old key until somebody can be asked', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }], lease: hours(3) });
  await world.up('c0');
  await world.advance(seconds(5));
  const traffic = world.traffic('c0', 5);
  const old = currentKey(world);
  const before = keyInUse(world);
  world.partition('x0', 'b', 'control');
  world.partition('x0', 'a', 'control');
  await world.advance(minutes(1));
  await world.rotateKey('x0', 'wireguard');
  await world.advance(minutes(20));
  t.equal(keyInUse(world), before);
  world.heal('x0', 'b');
  world.heal('x0', 'a');
  await world.advance(minutes(12));
  isOver(t, world, old);
  t.equal(traffic.lost, 0);
});

// ——— clients

t.test('a client has another WireGuard key for each session, and none is left of the ones before', async (t) => {
  const world = await overlayWorld();
  const seen: string[] = [];
  for (let i = 0; i < 3; i++) {
    await world.up('c0');
    const [key = ''] = Object.values(devices(world, 'c0'));
    t.notOk(seen.includes(key), 'another one');
    seen.push(key);
    await world.down('c0');
    await world.advance(seconds(2));
    t.notOk(
      seen.some((one) => everything(world, 'c0').includes(one)),
      'and it is gone afterwards',
    );
  }
  await world.up('c0');
  const [before = ''] = Object.values(devices(world, 'c0'));
  await world.rotateKey('x0', 'wireguard');
  await world.advance(minutes(4));
  t.notOk(everything(world, 'c0').includes(before), 'gone with the session that was replaced');
});
