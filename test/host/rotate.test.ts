import t from 'tap';
import { Fleet, Pings, statusOf, Transfer, withStandby } from '../../chaos/overlay/index.js';
import { activeOf, eventsOf, reaches, strangePackets, TWO_EXITS_ABROAD } from '../support/fleet-checks.js';
import { eventually, kernelResidue, wireGuardPeers } from '../support/overlay-checks.js';

t.test('a client goes over to another exit, and nobody at the keyboard notices', async (t) => {
  const fleet = await Fleet.start(TWO_EXITS_ABROAD);
  t.teardown(() => fleet.close());
  const client = fleet.node('c1');
  const [x1, x2] = ['x1', 'x2'].map((name) => fleet.home(name).publicIpv4) as [string, string];
  const uplink = await fleet.home('c1').router.capture('eth0');
  t.equal((await client.cli('up')).code, 0);
  await withStandby(client);

  const before = await fleet.seenIp(client.host);
  const other = before === x1 ? x2 : x1;
  const pings = await Pings.start(client.host, fleet.web);
  const transfer = await Transfer.start(client.host, fleet.web, { seconds: 6 });

  const rotated = await client.cli('rotate', '--reason', 'a test');
  t.equal(rotated.code, 0, rotated.stderr);
  t.equal(await fleet.seenIp(client.host), other, 'a new connection leaves by the other exit');
  t.ok(
    (await client.api.status()).sessions.some(({ use }) => use === 'retiring'),
    'the old tunnel stays for what is open',
  );
  t.match(await transfer.ended(), { intact: true }, 'the download that was running has ended whole');
  const { sent, lost } = await pings.stop();
  t.equal(lost, 0, `of ${sent} packets`);

  await t.test('then the old tunnel goes, and there is a standby again', async (t) => {
    await statusOf(client, ({ sessions }) => sessions.every(({ use }) => use !== 'retiring'), 150_000);
    await withStandby(client);
    t.equal(await fleet.seenIp(client.host), other);
    t.ok((await eventsOf(client)).includes('rotated'));
  });

  await t.test('rotation again leads back, with nothing in between outside the tunnels', async (t) => {
    const was = (await activeOf(client)).exitId;
    t.equal((await client.cli('rotate')).code, 0);
    t.not((await activeOf(client)).exitId, was);
    t.ok(await reaches(fleet, client, [before]));
    t.same(await strangePackets(uplink), []);
  });

  t.equal((await client.cli('down')).code, 0);
  t.same(await kernelResidue(client), []);
  for (const exit of fleet.exits) {
    const left = await eventually(
      () => wireGuardPeers(exit),
      (peers) => peers.length === 0,
    );
    t.same(left, [], exit.name);
  }
});
