import t from 'tap';
import { ADDRESSES, activeSession, Overlay, statusOf } from '../../chaos/overlay/index.js';
import { eventsOf, pathOf, strangePackets } from '../support/fleet-checks.js';
import { eventually } from '../support/overlay-checks.js';

t.test('a laptop goes from network to network, and stays connected', async (t) => {
  const overlay = await Overlay.start({ clientArgs: ['--standby', 'off'] });
  t.teardown(() => overlay.close());
  const { client, clientHome, exitHome, lab } = overlay;
  const cafe = await lab.home('cafe', { nat: 'random', publicIpv4: '198.51.100.21', lan: '192.168.3.0/24' });
  t.equal((await client.cli('up')).code, 0);
  await eventually(
    () => pathOf(client),
    (path) => path === 'direct',
  );
  const passes = async (what: string) => {
    const seen = await eventually(
      () => overlay.fetch(`${overlay.web.url}/`, 2),
      ({ ok }) => ok,
      30_000,
    );
    t.match(JSON.parse(seen.body), { ip: ADDRESSES.exitHome }, what);
    await statusOf(client, (status) => activeSession(status)?.state === 'up');
  };

  await t.test('its NAT maps anew', async () => {
    await clientHome.rebind();
    await passes('the same exit as before');
  });

  await t.test('the exit’s NAT maps anew', async () => {
    await exitHome.rebind();
    await passes('the same exit as before');
  });

  await t.test(
    'the cable is pulled: status does not say that it is connected, and it is when the cable is back',
    async (t) => {
      await client.host.unplug();
      const status = await statusOf(client, (seen) => activeSession(seen)?.state !== 'up');
      t.not(activeSession(status)?.state, 'up');
      const shown = await client.cli('status');
      t.notMatch(shown.stdout, /^up/m);
      await client.host.replug();
      await passes('plugged in again');
    },
  );

  await t.test('it is carried to another place, behind a NAT with random ports', async (t) => {
    const uplink = await cafe.router.capture('eth0');
    await cafe.adopt(client.host);
    await passes('from there too');
    t.same(await strangePackets(uplink), [], 'and nothing left outside the tunnel on the way');
  });

  await t.test('from Wi-Fi to cable: another default route, and the old network stays for a while', async () => {
    await clientHome.connect(client.host, { device: 'eth1', metric: 100 });
    await client.host.ip('route del default dev eth0');
    await passes('over the cable');
    await client.host.removeCard('eth0');
    await passes('and without the old card');
  });

  await t.test('the provider gives the home another address', async () => {
    await clientHome.changeAddress('198.51.100.29');
    await passes('under the new one');
  });

  t.ok((await eventsOf(client)).includes('network-changed'), 'vpnd events tells of it');
  t.equal((await client.cli('down')).code, 0);
});
