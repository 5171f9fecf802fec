import t, { type Test } from 'tap';
import { Path } from '../../src/gen/vpnd/v1/types_pb.js';
import type { Endpoint, Port } from '../../src/model/address.js';
import type { ControlMessage } from '../../src/model/messages.js';
import { minutes, ms, seconds } from '../../src/model/time.js';
import { violations } from '../support/overlay-world/invariants.js';
import { relaysOf } from '../support/overlay-world/scenes.js';
import { type OverlayWorld, overlayWorld } from '../support/overlay-world.js';

const LEASE = minutes(6);
/** One hop: client and exit at one supernode. Two: each at its own. */
const PLACES = {
  'over two supernodes': { supernodes: [{ region: 'us' }, { region: 'eu' }] },
  'over one supernode': { supernodes: [{ region: 'us' }], exits: [{ region: 'us' }] },
};

const relays = (world: OverlayWorld): readonly string[] => relaysOf(world.way('c0'));
const isDirect = (world: OverlayWorld): boolean => world.way('c0').ok && relays(world).length === 0;
/** Relay ports that supernodes' kernels hold. */
const relayUnits = (world: OverlayWorld): number =>
  world.of('supernode').flatMap((one) => one.kernel.units().filter((unit) => unit.kind === 'relay')).length;
/** What supernodes say of the session's path. */
const pathAt = async (world: OverlayWorld, name = 'a') => (await world.status(name)).sessions?.[0]?.path;

async function endsCleanly(t: Test, world: OverlayWorld): Promise<void> {
  t.match(await world.down('c0'), { wasUp: true, releasedEverywhere: true });
  await world.advance(seconds(5));
  t.same(world.residue(), []);
}

/** 100 packets a second meanwhile, none of them lost. */
async function underTraffic(t: Test, world: OverlayWorld, what: () => Promise<unknown>): Promise<void> {
  const traffic = world.traffic('c0', 100);
  await world.advance(300);
  await what();
  await world.advance(1_100);
  t.equal(traffic.lost, 0, `of ${traffic.sent} packets`);
  t.ok(traffic.longestGap() <= 40, `longest gap ${traffic.longestGap()} ms`);
  traffic.stop();
}

const isUpdate = (message: ControlMessage, path?: string): boolean =>
  message.kind === 'command' &&
  message.command.desired.kind === 'relay-update' &&
  (path === undefined || message.command.desired.path === path);

for (const [place, options] of Object.entries(PLACES)) {
  t.test(`${place}: direct and back under traffic, with nothing lost`, async (t) => {
    const world = await overlayWorld({ lease: LEASE, ...options });
    await world.up('c0');
    const hops = Object.keys(options.supernodes).length;
    t.equal(relays(world).length, hops, 'it begins on relays');
    await underTraffic(t, world, async () => {
      await world.until('it is direct', () => isDirect(world), 5_000);
      await world.advance(seconds(1));
    });
    t.match(await world.session('c0'), { path: Path.DIRECT, state: 'up' });
    t.equal(await pathAt(world), Path.DIRECT);
    t.equal(relayUnits(world), 2, 'relays stay until the direct path has shown that it holds');
    await underTraffic(t, world, () => world.advance(seconds(32)));
    t.equal(relayUnits(world), 0, 'then the kernels have nothing of them');
    for (const { name } of world.of('supernode'))
      t.match(await world.status(name), { facts: { relay_ports: /[12] in use/ } });

    await world.advance(2 * LEASE);
    t.ok(isDirect(world), 'leases are renewed, and bring no relay back');
    t.equal(relayUnits(world), 0);
    t.same(violations(world.all()), []);

    await underTraffic(t, world, async () => {
      await world.setPath('c0', Path.RELAY);
      await world.until('it is back', () => relays(world).length === hops, 3_000);
      await world.advance(seconds(2));
    });
    t.match(await world.session('c0'), { path: hops === 1 ? Path.RELAY : Path.RELAY2 });
    await world.advance(minutes(2));
    t.equal(relays(world).length, hops, 'and stays there');

    await underTraffic(t, world, async () => {
      await world.setPath('c0', Path.DIRECT);
      await world.until('it is direct again', () => isDirect(world), 5_000);
      await world.advance(seconds(40));
    });
    t.equal(relayUnits(world), 0);
    t.same(violations(world.all()), []);
    await endsCleanly(t, world);
  });
}

t.test(
  'between routers that let no stranger in, the session stays on its relays and is not tried again soon',
  async (t) => {
    const world = await overlayWorld({
      lease: LEASE,
      clients: [{ region: 'us', nat: 'random' }],
      exits: [{ region: 'eu', nat: 'random' }],
    });
    let tries = 0;
    world.node('a').tampering.sends = (message) => {
      if (isUpdate(message, 'direct')) tries++;
      return message;
    };
    await world.up('c0');
    const traffic = world.traffic('c0', 1);
    await world.advance(seconds(10));
    t.equal(tries, 1);
    t.equal(relays(world).length, 2);
    t.equal(traffic.lost, 0, 'and an attempt costs nothing');
    await world.advance(minutes(25));
    t.equal(tries, 1, 'once per half an hour');
    await world.advance(minutes(6));
    t.equal(tries, 2);
    t.equal(traffic.lost, 0);
    traffic.stop();
    t.same(violations(world.all()), []);
    await endsCleanly(t, world);
  },
);

t.test('a client that wants direct paths has them tried every minute; one that wants none, never', async (t) => {
  const updates = async (privacy: 'direct' | 'private') => {
    const nat = 'random' as const;
    const world = await overlayWorld({ clients: [{ region: 'us', privacy, nat }], exits: [{ region: 'eu', nat }] });
    let tries = 0;
    world.node('b').tampering.sends = (message) => {
      if (isUpdate(message, 'direct')) tries++;
      return message;
    };
    await world.up('c0');
    await world.advance(minutes(10));
    t.equal(relays(world).length, 2);
    return tries;
  };
  const tried = await updates('direct');
  t.ok(tried >= 8 && tried <= 11, `${tried} times in ten minutes`);
  t.equal(await updates('private'), 0);
});

t.test('a private session never goes direct, whatever its client asks', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }] });
  await world.up('c0');
  await world.setPath('c0', Path.DIRECT).catch(() => {});
  await world.advance(minutes(2));
  t.equal(relays(world).length, 2);
});

/** Where a daemon may die on the way to the direct path and back: as a message is about to be sent. */
const MOMENTS: Readonly<Record<string, { who: string; at: (message: ControlMessage) => boolean }>> = {
  'the exit’s supernode, before it tells the exit': { who: 'b', at: (message) => isUpdate(message, 'direct') },
  'the exit, before it answers': { who: 'x0', at: (message) => message.kind === 'command-response' },
  'the client’s supernode, before it tells the client': { who: 'a', at: (message) => isUpdate(message, 'direct') },
  'the client, before it answers': { who: 'c0', at: (message) => message.kind === 'command-response' },
};

for (const [what, { who, at }] of Object.entries(MOMENTS)) {
  for (const lost of [true, false]) {
    t.test(`${what}, dies${lost ? '' : ' just after'}: the session goes on, and all agree on its path`, async (t) => {
      const world = await overlayWorld({ lease: LEASE });
      await world.up('c0');
      const traffic = world.traffic('c0', 20);
      let died = false;
      const { tampering } = world.node(who);
      tampering.sends = (message) => {
        if (!at(message)) return message;
        delete tampering.sends;
        died = true;
        if (lost) world.crash(who);
        else world.clock.after(ms(1), () => world.crash(who));
        return lost ? undefined : message;
      };
      await world.until('it died', () => died, 5_000);
      await world.advance(seconds(3));
      const before = traffic.lost;
      await world.advance(seconds(5));
      t.equal(traffic.lost, before, 'kernels go on without it');
      await world.restart(who);
      await world.untilConnected(['c0', 'x0']);
      await world.advance(seconds(90));
      t.match(world.way('c0'), { ok: true });
      t.ok(isDirect(world), 'and it is direct in the end');
      t.equal(relayUnits(world), 0);
      t.equal(await pathAt(world), Path.DIRECT);
      t.same(violations(world.all()), []);
      traffic.stop();
      await endsCleanly(t, world);
    });
  }
}

for (const who of ['a', 'b', 'x0', 'c0']) {
  t.test(`${who} is restarted while the session is direct: nothing is lost, and it stays direct`, async (t) => {
    const world = await overlayWorld({ lease: LEASE });
    await world.up('c0');
    for (const wait of [seconds(10), seconds(60)]) {
      await world.until('it is direct', () => isDirect(world), 30_000);
      await world.advance(wait);
      const traffic = world.traffic('c0', 100);
      world.crash(who);
      await world.advance(seconds(4));
      await world.restart(who);
      await world.untilConnected(['c0', 'x0']);
      await world.advance(seconds(60));
      t.equal(traffic.lost, 0);
      traffic.stop();
      t.ok(isDirect(world));
      t.equal(relayUnits(world), 0);
      t.same(violations(world.all()), []);
    }
    await endsCleanly(t, world);
  });
}

t.test('an exit that lost a direct session gets it back with its path', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  await world.up('c0');
  await world.until('it is direct', () => isDirect(world), 5_000);
  await world.advance(seconds(40));
  world.crash('x0', 'power-off');
  for (const record of world.node('x0').store.ledger.sessions()) {
    world.node('x0').store.ledger.record(
      {
        id: 'f'.repeat(32) as never,
        session: record.session,
        generation: record.generation,
        contentHash: new Uint8Array(32),
        response: { offer: undefined },
        appliedAt: world.clock.now(),
      },
      { ...record, desired: [] },
    );
  }
  await world.restart('x0');
  await world.untilConnected(['x0']);
  await world.advance(seconds(30));
  t.match(world.way('c0'), { ok: true });
  t.same(violations(world.all()), []);
});

t.test('the client goes to another network: its packets pass again within seconds, directly in the end', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  await world.up('c0');
  await world.until('it is direct', () => isDirect(world), 5_000);
  await world.advance(seconds(40));
  const traffic = world.traffic('c0', 50);
  await world.advance(seconds(2));
  const at = world.clock.monotonic();
  world.move('c0', '203.0.113.177');
  await world.advance(seconds(15));
  const resumed = traffic.resumedAfter(at) ?? Number.POSITIVE_INFINITY;
  t.ok(resumed <= 3_000, `after ${resumed} ms`);
  await world.advance(seconds(60));
  t.ok(isDirect(world));
  t.equal(relayUnits(world), 0);
  t.same(violations(world.all()), []);
  traffic.stop();
  await endsCleanly(t, world);
});

for (const [place, options] of Object.entries(PLACES)) {
  t.test(`${place}: the exit goes to another network, and the session comes back to it`, async (t) => {
    const world = await overlayWorld({ lease: LEASE, ...options });
    await world.up('c0');
    await world.until('it is direct', () => isDirect(world), 5_000);
    await world.advance(seconds(40));
    const { sessionId } = (await world.session('c0')) ?? {};
    world.move('x0', '203.0.113.77');
    await world.until('packets pass', () => world.way('c0').ok, 60_000);
    await world.advance(seconds(90));
    t.match(world.way('c0'), { ok: true });
    t.same(violations(world.all()), []);
    t.ok(sessionId);
    await endsCleanly(t, world);
  });
}

t.test('a supernode with many clients moves a few at a time', async (t) => {
  const clients = Array.from({ length: 12 }, () => ({ region: 'us' }));
  const world = await overlayWorld({ lease: LEASE, clients, exits: [{ region: 'eu', sessionCapacity: 20 }] });
  const under = new Set<string>();
  let most = 0;
  const { tampering } = world.node('a');
  tampering.sends = (message) => {
    if (message.kind === 'command' && isUpdate(message, 'direct')) under.add(message.command.id);
    most = Math.max(most, under.size);
    return message;
  };
  for (const { name } of world.of('client')) {
    world.node(name).tampering.sends = (message) => {
      if (message.kind === 'command-response') under.delete(message.id);
      return message;
    };
  }
  for (const { name } of world.of('client')) await world.up(name);
  world.crash('a');
  await world.restart('a');
  await world.untilConnected(world.of('client').map((one) => one.name));
  await world.advance(seconds(30));
  const direct = world.of('client').filter(({ name }) => relaysOf(world.way(name)).length === 0);
  t.equal(direct.length, 12);
  t.ok(most <= 6, `${most} at once`);
});

t.test('a session that was granted direct gets relays when its client asks for them', async (t) => {
  const publicEndpoint: Endpoint = { ip: '203.0.113.10' as Endpoint['ip'], port: 51_821 as Port };
  const world = await overlayWorld({
    lease: LEASE,
    exits: [{ region: 'eu', nat: 'none', publicEndpoint, wireguardPort: publicEndpoint.port }],
  });
  await world.up('c0');
  t.ok(isDirect(world));
  t.equal(relayUnits(world), 0);
  await world.setPath('c0', Path.RELAY);
  await world.until('it has relays', () => relays(world).length === 2, 5_000);
  await world.advance(2 * LEASE);
  t.equal(relays(world).length, 2, 'renewed as others are');
  t.same(violations(world.all()), []);
  await endsCleanly(t, world);
});

t.test('relay ports and inner addresses rest across a restart of their supernode', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  const used = async () => {
    await world.up('c0');
    const [one] = world.node('a').store.facts.names('front/');
    const front = world.node('a').store.facts.get<{ port: number; inner: { ipv4: string } }>(one ?? '');
    const [other] = world.node('b').store.facts.names('back/');
    const back = world.node('b').store.facts.get<{ port: number }>(other ?? '');
    await world.down('c0');
    return [front?.port, front?.inner.ipv4, back?.port];
  };
  const before = await used();
  for (const name of ['a', 'b']) {
    world.crash(name);
    await world.restart(name);
  }
  await world.untilConnected(['c0', 'x0']);
  await world.advance(seconds(10));
  const after = await used();
  for (const [i, what] of before.entries()) t.not(after[i], what);
});
