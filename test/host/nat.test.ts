import t from 'tap';
import { Fleet, statusOf } from '../../chaos/overlay/index.js';
import { pathOf, reaches } from '../support/fleet-checks.js';
import { eventually } from '../support/overlay-checks.js';

/** Of docs/nat.md the pairs that stand for the others; `make nat-table` tries all of them. */
const PAIRS = [
  { client: 'home', exit: 'home-exit', becomes: 'direct' },
  { client: 'home', exit: 'random-exit', becomes: 'relay' },
  { client: 'random', exit: 'home-exit', becomes: 'relay' },
  { client: 'random', exit: 'open-exit', becomes: 'direct' },
  { client: 'carrier', exit: 'random-exit', becomes: 'relay' },
] as const;
/** A direct path that works is taken within two seconds, or five where it has to be found in a quiet moment. */
const SETTLE_MS = 8000;

t.test('what the NATs of both ends let through is taken, and everything works in any case', async (t) => {
  const fleet = await Fleet.start({
    supernodes: [{ name: 'a', region: 'eu' }],
    exits: [
      { name: 'home-exit', region: 'eu', nat: 'port-preserving' },
      { name: 'random-exit', region: 'eu', nat: 'random' },
      { name: 'open-exit', region: 'eu', nat: 'none' },
    ],
    clients: [
      { name: 'home', region: 'eu', nat: 'port-preserving' },
      { name: 'random', region: 'eu', nat: 'random' },
      { name: 'carrier', region: 'eu', nat: 'carrier-grade' },
    ],
    clientArgs: ['--standby', 'off'],
  });
  t.teardown(() => fleet.close());

  for (const { client: name, exit, becomes } of PAIRS) {
    await t.test(`${name} and ${exit}: ${becomes}`, async (t) => {
      const client = fleet.node(name);
      const { peerId } = await fleet.node(exit).api.status();
      const up = await client.cli('up', '--exit', peerId);
      t.equal(up.code, 0, up.stderr);
      if (becomes === 'direct') {
        const path = await eventually(
          () => pathOf(client),
          (seen) => seen === 'direct',
        );
        t.equal(path, 'direct');
      } else {
        const left = statusOf(client, ({ sessions }) => sessions.some(({ via }) => via.length === 0), SETTLE_MS);
        await t.rejects(left, 'it stays on its relay');
      }
      const home = fleet.home(exit);
      const own = home.nat === 'none' ? fleet.node(exit).host.ipv4 : home.publicIpv4;
      t.ok(await reaches(fleet, client, [own ?? '']), 'and carries traffic');
      t.equal((await client.cli('down')).code, 0);
    });
  }
});
