import t, { type Test } from 'tap';
import {
  activeSession,
  Fleet,
  freezeDaemon,
  freezeMachine,
  killMachine,
  Pings,
  statusOf,
  thawDaemon,
  thawMachine,
  withStandby,
} from '../../chaos/overlay/index.js';
import { activeOf, eventsOf, reaches, strangePackets } from '../support/fleet-checks.js';

/** In every request; nothing of it may be readable underneath. */
const CANARY = 'the-canary-in-the-request';

t.test('what dies, freezes or is cut off is left for another exit, and nothing ever leaves outside', async (t) => {
  const fleet = await Fleet.start({
    supernodes: [
      { name: 'a', region: 'eu' },
      { name: 'b', region: 'us' },
      { name: 'c', region: 'as' },
    ],
    exits: [
      { name: 'x1', region: 'us' },
      { name: 'x2', region: 'as' },
      { name: 'x3', region: 'us' },
    ],
    clients: [{ name: 'c1', region: 'eu' }],
  });
  t.teardown(() => fleet.close());
  const client = fleet.node('c1');
  const names = await fleet.names();
  const homes = ['x1', 'x2', 'x3'].map((name) => fleet.home(name).publicIpv4);
  const used = async () => names.get((await activeOf(client)).exitId) ?? '';
  const url = `${fleet.web.url}/?${CANARY}`;
  const uplink = await fleet.home('c1').router.capture('eth0');
  t.equal((await client.cli('up', '--privacy', 'private')).code, 0);

  /** The exit in use is harmed; the client finds another by itself, and keeps trying until all is well again. */
  async function survives(
    t: Test,
    harm: (exit: string) => Promise<unknown>,
    mend: (exit: string) => Promise<unknown>,
  ): Promise<void> {
    await withStandby(client);
    const exit = await used();
    await harm(exit);
    try {
      const others = homes.filter((ip) => ip !== fleet.home(exit).publicIpv4);
      t.ok(await reaches(fleet, client, others), 'traffic leaves by another exit');
      t.not(await used(), exit);
      t.equal(activeSession(await statusOf(client, (seen) => activeSession(seen)?.state === 'up'))?.state, 'up');
    } finally {
      await mend(exit);
    }
  }

  await t.test('an exit that is killed', (t) =>
    survives(
      t,
      (exit) => killMachine(fleet.node(exit)),
      (exit) => fleet.node(exit).start(),
    ),
  );

  await t.test('an exit that stands still and closes nothing', (t) =>
    survives(
      t,
      (exit) => freezeMachine(fleet.node(exit)),
      (exit) => thawMachine(fleet.node(exit)),
    ),
  );

  await t.test('an exit that has lost the internet and answers probes', (t) =>
    survives(
      t,
      async (exit) => {
        const { upstream } = await fleet.node(exit).api.status();
        const own = fleet.node(names.get(upstream?.supervisorId ?? '') ?? '').host.ipv4 ?? '';
        await fleet.home(exit).cutUplink([own]);
      },
      (exit) => fleet.home(exit).openUplink(),
    ),
  );

  await t.test('the client’s own relay, unplugged', async (t) => {
    await withStandby(client);
    const relay = fleet.node(names.get((await activeOf(client)).supernodeId) ?? '');
    await relay.host.unplug();
    t.ok(await reaches(fleet, client, homes), 'traffic goes over another supernode');
    await relay.host.replug();
  });

  await t.test('a daemon that stands still over a working data plane costs nothing', async (t) => {
    await withStandby(client);
    const exit = fleet.node(await used());
    const pings = await Pings.start(client.host, fleet.web);
    freezeDaemon(exit);
    const before = fleet.home(await used()).publicIpv4;
    for (let look = 0; look < 8; look++) {
      t.equal(await fleet.seenIp(client.host, url), before);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    thawDaemon(exit);
    const { sent, lost } = await pings.stop();
    t.equal(lost, 0, `of ${sent} packets`);
  });

  await t.test('no exit is left: traffic is held, the user is told, and one that comes back is taken', async (t) => {
    for (const exit of fleet.exits) await freezeMachine(exit);
    await statusOf(client, ({ problems, sessions }) => {
      return problems.some((one) => /traffic is held/.test(one)) && sessions.every(({ state }) => state !== 'up');
    });
    await t.rejects(fleet.seenIp(client.host, url, 2), 'nothing passes');
    const status = await client.cli('status');
    t.match(status.stdout, /traffic is held/);
    for (const exit of fleet.exits) await thawMachine(exit);
    t.ok(await reaches(fleet, client, homes, 60_000));
  });

  await t.test('on the client’s uplink there were tunnels and control streams all the time', async (t) => {
    t.same(await strangePackets(uplink), []);
    const seen = await uplink.summary();
    t.equal(seen.containing(CANARY), 0);
    t.ok((seen.byKind.wireguard ?? 0) > 20);
    const own = fleet.home('c1').publicIpv4;
    t.same(
      fleet.web.requests().filter(({ ip }) => ip === own),
      [],
      'the web server never saw the client’s own address',
    );
    const happened = await eventsOf(client);
    for (const code of ['connected', 'standby-ready', 'failed-over']) t.ok(happened.includes(code), code);
  });
});
