import t, { type Test } from 'tap';
import { Path } from '../../src/gen/vpnd/v1/types_pb.js';
import type { Endpoint } from '../../src/model/address.js';
import type { PeerUnit } from '../../src/model/dataplane.js';
import { hours, instantOf, minutes, seconds } from '../../src/model/time.js';
import type { RecordedTunnel } from '../../src/roles/client/record.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { standbyReady, warm } from '../support/overlay-world/scenes.js';
import { type Machine, type OverlayWorld, overlayWorld } from '../support/overlay-world.js';

const peersOf = (machine: Machine): readonly PeerUnit[] =>
  machine.kernel.units().flatMap((unit) => (unit.kind === 'peer' && unit.allowedIps.length > 0 ? [unit] : []));

/** The pre-shared keys of a client's tunnels, as its kernel and the exits' have them; by interface. */
function keys(world: OverlayWorld, name = 'c0'): Readonly<Record<string, { here?: string; there?: string }>> {
  const client = world.node(name);
  const found: Record<string, { here?: string; there?: string }> = {};
  for (const unit of client.kernel.units()) {
    if (unit.kind !== 'device') continue;
    const [here] = peersOf(client).filter((peer) => peer.device === unit.name);
    const there = world
      .all()
      .flatMap((machine) => (machine === client ? [] : peersOf(machine)))
      .find((peer) => peer.allowedIps[0] === unit.addresses[0]);
    if (here === undefined) continue;
    found[unit.name] = {
      ...(here.presharedKey && { here: here.presharedKey }),
      ...(there?.presharedKey && { there: there.presharedKey }),
    };
  }
  return found;
}

/** Both ends of every tunnel have the same key, and no two tunnels have one. */
function agrees(t: Test, world: OverlayWorld, tunnels = 1, what = ''): readonly string[] {
  const pairs = Object.values(keys(world));
  t.equal(pairs.length, tunnels, `${tunnels} tunnels ${what}`);
  for (const { here, there } of pairs) {
    t.ok(here !== undefined && here.length === 44, `a key ${what}`);
    t.equal(here, there, `the same at the exit ${what}`);
  }
  t.equal(new Set(pairs.map(({ here }) => here)).size, tunnels, `none twice ${what}`);
  return pairs.map(({ here }) => here ?? '');
}

/** What the exits keep of it on disk. */
const kept = (world: OverlayWorld, exit = 'x0'): readonly string[] =>
  world
    .node(exit)
    .store.ledger.sessions()
    .flatMap((record) => record.desired)
    .flatMap((desired) => (desired.kind === 'setup-exit' ? (desired.preshared?.keys ?? []) : []));

/** The client's keys become an hour older while its daemon is away: an hour of packets is much to count. */
async function hourLater(world: OverlayWorld, name = 'c0'): Promise<void> {
  world.crash(name);
  const { facts } = world.node(name).store;
  const tunnels = facts.get<readonly RecordedTunnel[]>('tunnels') ?? [];
  const older = tunnels.map((one) => {
    const { preshared } = one.held;
    const then = preshared && { ...preshared, since: instantOf(preshared.since - hours(1)) };
    return { ...one, held: { ...one.held, preshared: then } };
  });
  facts.put('tunnels', older);
  await world.restart(name);
}

const PUBLIC = { ip: '203.0.113.10', port: 51_821 } as Endpoint;

// ——— every way

for (const [what, options] of Object.entries<Parameters<typeof overlayWorld>[0]>({
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
  'to a supernode’s own egress': { supernodes: [{ region: 'us' }, { region: 'eu', egress: true }], exits: [] },
})) {
  t.test(`${what}: both ends have the same key, also after an hour, and nothing is lost`, async (t) => {
    const world = await overlayWorld(options);
    await world.up('c0');
    // Every half an hour it would be tried again whether there is a direct path, with some packets.
    if (what === 'over one supernode') await world.setPath('c0', Path.RELAY);
    await world.advance(seconds(10));
    const [first] = agrees(t, world);
    const traffic = world.traffic('c0', 2);
    if (what === 'over two supernodes') await world.advance(hours(1));
    else await hourLater(world);
    await world.advance(seconds(30));
    const [second] = agrees(t, world, 1, 'after an hour');
    t.not(second, first, 'it is another one');
    // The next handshake is with the new one.
    await world.advance(minutes(4));
    t.match(world.way('c0'), { ok: true });
    await hourLater(world);
    await world.advance(seconds(30));
    const [third] = agrees(t, world, 1, 'after two hours');
    t.not(third, second);
    t.equal(traffic.lost, 0);
    traffic.stop();
    t.match(await world.session('c0'), { presharedKey: 'ML-KEM-768' });
    await world.down('c0');
    await world.advance(seconds(5));
    t.same(world.residue(), []);
    t.notOk([...kept(world, 'a'), ...world.all().flatMap((one) => kept(world, one.name))].length, 'nor a key');
  });
}

t.test('standby, rotation and failover: each tunnel has a key of its own', async (t) => {
  const world = await warm({ nat: 'random' });
  const before = agrees(t, world, 2);
  await world.rotate('c0');
  await world.advance(seconds(5));
  await world.advance(minutes(3));
  await standbyReady(world);
  const rotated = agrees(t, world, 2, 'after a rotation');
  t.equal(new Set([...before, ...rotated]).size >= 3, true, 'the new tunnel has a new one');
  const exit = (await world.session('c0'))?.exitId;
  world.crash(world.all().find((one) => one.id === exit)?.name ?? '', 'power-off');
  await world.advance(minutes(3));
  await standbyReady(world);
  agrees(t, world, 2, 'after a failover');
  await world.down('c0');
});

t.test('any daemon may be restarted at any time', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }] });
  await world.up('c0');
  await world.advance(seconds(10));
  const [first] = agrees(t, world);
  const traffic = world.traffic('c0', 2);
  for (const name of ['x0', 'b', 'a', 'c0']) {
    world.crash(name);
    await world.advance(seconds(3));
    await world.restart(name);
    await world.advance(minutes(3));
    t.same(agrees(t, world, 1, `after ${name} was restarted`), [first]);
  }
  await hourLater(world);
  await world.advance(seconds(30));
  const [second] = agrees(t, world);
  t.not(second, first);
  for (const name of ['x0', 'b', 'a', 'c0']) {
    world.crash(name);
    await world.restart(name);
    await world.advance(minutes(3));
    agrees(t, world, 1, `after ${name} was restarted again`);
  }
  t.equal(traffic.lost, 0);
  traffic.stop();
});

// ——— a renewal that goes wrong half-way

/** The exit has another key, the client has not heard of it, and will not before `heal`. */
async function answerLost(options: Parameters<typeof overlayWorld>[0] = {}) {
  const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }], ...options });
  await world.up('c0');
  await world.advance(seconds(10));
  const a = world.node('a');
  let lost = 0;
  a.tampering.sends = (message) => {
    if (message.kind !== 'info-response' || !message.result.ok || message.result.value.kind !== 'rekeyed')
      return message;
    lost++;
    return undefined;
  };
  const traffic = world.traffic('c0', 2);
  const first = keys(world)['wg-client'];
  await hourLater(world);
  await world.until('the exit has another key', () => keys(world)['wg-client']?.there !== first?.there);
  return { world, traffic, first: first?.here, lost: () => lost, heal: () => delete a.tampering.sends };
}

t.test('a lost answer is asked for again, and is the same', async (t) => {
  const { world, traffic, first, lost, heal } = await answerLost();
  const there = keys(world)['wg-client']?.there;
  t.equal(keys(world)['wg-client']?.here, first, 'the client has the old one');
  t.not(there, first);
  await world.until('it asked again', () => lost() >= 2, minutes(3));
  t.equal(keys(world)['wg-client']?.there, there, 'the exit answers the same for the same key');
  heal();
  await world.advance(minutes(2));
  t.same(agrees(t, world), [there]);
  await world.advance(minutes(5));
  t.equal(traffic.lost, 0);
  t.match(world.way('c0'), { ok: true });
});

t.test('no answer comes for ten minutes: the tunnel goes on with the key both have', async (t) => {
  const { world, traffic, first, heal } = await answerLost();
  await world.advance(minutes(10));
  t.equal(traffic.lost, 0, 'no packet is lost');
  t.same(kept(world).length, 2, 'the exit keeps both');
  heal();
  await world.advance(minutes(10));
  const [now] = agrees(t, world);
  t.not(now, first);
  await world.advance(minutes(22));
  t.equal(traffic.lost, 0);
  t.same(kept(world), [now], 'the old one is gone from the exit’s disk');
});

for (const name of ['x0', 'b', 'a', 'c0']) {
  t.test(`the answer is lost, and then ${name} dies and comes back`, async (t) => {
    const { world, traffic, heal } = await answerLost();
    await world.advance(minutes(4));
    world.crash(name);
    await world.advance(seconds(20));
    await world.restart(name);
    await world.advance(minutes(8));
    t.equal(traffic.lost, 0);
    heal();
    await world.advance(minutes(9));
    agrees(t, world);
    await world.advance(minutes(4));
    t.equal(traffic.lost, 0);
    t.match(world.way('c0'), { ok: true });
  });
}

t.test('the client’s supernode is gone when its exit has just got another key', async (t) => {
  const { world, traffic, heal } = await answerLost({ lease: hours(2) });
  world.crash('a');
  await world.advance(minutes(10));
  t.equal(traffic.lost, 0);
  heal();
  await world.restart('a');
  await world.advance(minutes(8));
  agrees(t, world);
  t.equal(traffic.lost, 0);
});

t.test('a client that slept through it finds the key again', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }], lease: hours(12) });
  await world.up('c0');
  await hourLater(world);
  await world.advance(seconds(5));
  const [renewed] = agrees(t, world);
  // Asleep before any handshake with the new key: the exit tries the old one meanwhile.
  world.sleep('c0');
  await world.advance(minutes(30) + seconds(7));
  world.wake('c0');
  await world.advance(minutes(2));
  const traffic = world.traffic('c0', 2);
  await world.advance(seconds(5));
  t.equal(traffic.lost, 0);
  t.match(world.way('c0'), { ok: true });
  agrees(t, world);
  t.ok(renewed);
});

t.test('an exit that lost its database, and all keys with it, has another one with its client at once', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }] });
  await world.up('c0');
  await world.advance(seconds(10));
  const session = (await world.session('c0'))?.sessionId;
  // A renewal of the lease has been through: the last command to the exit had no key.
  await world.advance(minutes(30));
  const [first] = agrees(t, world);
  const exit = world.node('x0');
  world.crash('x0');
  const kept = openMemoryStore();
  for (const fact of ['enrolment', 'address-plan', 'directory']) {
    const value = exit.store.facts.get(fact);
    if (value !== undefined) kept.facts.put(fact, value);
  }
  exit.store = kept;
  await world.restart('x0');
  await world.untilConnected(['x0']);
  await world.advance(seconds(1));
  const traffic = world.traffic('c0', 2);
  t.not(agrees(t, world)[0], first);
  await world.advance(minutes(4));
  t.equal(traffic.lost, 0);
  t.equal((await world.session('c0'))?.sessionId, session, 'the session is the same');
});

t.test('a supernode that swaps the key at a renewal learns nothing and breaks nothing', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }] });
  await world.up('c0');
  await world.advance(seconds(10));
  const [first] = agrees(t, world);
  const own = world.crypto.kemKeyPair().publicKey;
  world.node('a').tampering.asks = (request) => (request.kemKey.length > 0 ? { ...request, kemKey: own } : request);
  const traffic = world.traffic('c0', 2);
  await hourLater(world);
  await world.advance(minutes(15));
  t.equal(keys(world)['wg-client']?.here, first, 'the client keeps what it has');
  t.match(world.said('c0', /could not be renewed/)[0]?.fields, { code: 'bad-offer' });
  t.ok(world.events('c0').includes('problem'), 'and says so');
  t.equal(traffic.lost, 0);
  world.node('a').tampering.asks = (request) => request;
  await world.advance(minutes(20));
  t.not(agrees(t, world)[0], first);
  t.equal(traffic.lost, 0);
});

t.test('only the client of a session has its key renewed', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us' }, { region: 'us' }] });
  await world.up('c0');
  await world.up('c1');
  await world.advance(seconds(10));
  const before = keys(world);
  const session = (await world.session('c0'))?.sessionId ?? '';
  world.node('c1').tampering.sends = (message) =>
    message.kind === 'info-request' && message.question.kind === 'rekey'
      ? { ...message, question: { ...message.question, session: session as never } }
      : message;
  const since = (await world.session('c0'))?.presharedSinceMs;
  await hourLater(world, 'c1');
  await world.advance(minutes(1));
  t.equal((await world.session('c0'))?.presharedSinceMs, since);
  t.same(keys(world), before, 'nobody else renews it');
  await hourLater(world);
  await world.advance(minutes(1));
  t.notSame(keys(world), before, 'its own client has');
  agrees(t, world);
  t.match(world.said('c1', /could not be renewed/)[0]?.fields, { code: 'no-session' });
});

// ——— who wants what

t.test('--pq at the client', async (t) => {
  const off = await overlayWorld({ clients: [{ region: 'us', pq: 'off' }] });
  await off.up('c0');
  t.same(keys(off), { 'wg-client': {} }, 'off: none');
  await off.advance(minutes(5));
  t.same(keys(off), { 'wg-client': {} });
  t.match(await off.session('c0'), { presharedKey: '' });

  const prefer = await overlayWorld({
    exits: [{ region: 'eu', pq: 'off' }],
    clients: [{ region: 'us', pq: 'prefer' }],
  });
  await prefer.up('c0');
  t.same(keys(prefer), { 'wg-client': {} }, 'prefer: none where the exit makes none');
  await prefer.advance(minutes(5));
  t.match(prefer.way('c0'), { ok: true });

  const require = await overlayWorld({ exits: [{ region: 'eu', pq: 'off' }] });
  t.match(await require.refusal('c0'), { code: 'bad-offer', message: /--pq require/ });
  await require.advance(seconds(5));
  t.same(require.residue(), []);
});

t.test('--pq at the exit: require refuses who asks for none', async (t) => {
  const world = await overlayWorld({
    exits: [{ region: 'eu', pq: 'require' }],
    clients: [
      { region: 'us', pq: 'off' },
      { region: 'us', pq: 'prefer' },
    ],
  });
  t.match(await world.refusal('c0'), { code: 'exit-refused', message: /--pq require/ });
  await world.up('c1');
  await world.advance(minutes(50));
  t.match(world.way('c1'), { ok: true }, 'and lets renewals of the lease alone');
});

t.test('of two exits of which one makes no keys, the other one is taken', async (t) => {
  const world = await overlayWorld({
    exits: [{ region: 'eu', pq: 'off' }, { region: 'eu', pq: 'off' }, { region: 'eu' }],
  });
  await world.up('c0');
  t.equal((await world.session('c0'))?.exitId, world.node('x2').id);
  agrees(t, world);
});

// ——— where it must not be

t.test('no key in any log, status, inventory, or store but the client’s and the exit’s', async (t) => {
  const { world, heal } = await answerLost();
  heal();
  await world.advance(minutes(10));
  const [key = ''] = agrees(t, world);
  const secrets = [key, ...kept(world)];
  const has = (text: string) => secrets.some((one) => text.includes(one));
  const said = JSON.stringify(world.lines);
  t.notOk(has(said), 'logs');
  for (const machine of world.all()) {
    t.notOk(has(machine.print()), `${machine.name} prints`);
    const status = await world.status(machine.name);
    t.notOk(
      has(JSON.stringify(status, (_, value) => (typeof value === 'bigint' ? String(value) : value))),
      `${machine.name} status`,
    );
    t.notOk(has((await machine.kernel.inventory()).join('\n')), `${machine.name} inventory`);
    const { facts } = machine.store;
    const text = facts.names('').map((name) => JSON.stringify(facts.get(name)));
    t.equal(has(text.join('\n')), machine.name === 'c0', `${machine.name} facts`);
    const answers = machine.store.ledger.sessions().flatMap((record) => record.desired);
    t.equal(has(JSON.stringify(answers)), machine.name === 'x0', `${machine.name} ledger`);
  }
});
