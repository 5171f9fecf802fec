import t from 'tap';
import { Fleet, Pings } from '../../chaos/overlay/index.js';
import { activeOf, eventsOf } from '../support/fleet-checks.js';
import { eventually, relayElements } from '../support/overlay-checks.js';

t.test('a supernode is taken out of service, and everybody goes elsewhere without losing a packet', async (t) => {
  const fleet = await Fleet.build({
    supernodes: [
      { name: 'a', region: 'eu' },
      { name: 'd', region: 'eu' },
      { name: 'b', region: 'us' },
    ],
    exits: [
      { name: 'x1', region: 'us' },
      { name: 'x2', region: 'eu' },
    ],
    // Every new session tries to go direct: the first two in vain, the third with success.
    clients: [
      { name: 'c1', region: 'eu', nat: 'random' },
      { name: 'c2', region: 'eu', with: 'c1' },
      { name: 'c3', region: 'eu', nat: 'port-preserving' },
    ],
    clientArgs: ['--standby', 'off'],
  });
  t.teardown(() => fleet.close());
  await fleet.base.start();
  // `d` comes last: until then `a` is the only supernode of the region, and has everybody.
  for (const name of ['a', 'b', 'x1', 'x2', 'c1', 'c2', 'c3']) await fleet.join(name);
  const [a, d] = [fleet.node('a'), fleet.node('d')];
  const names = await Promise.all(
    ['a', 'b'].map(async (name) => [(await fleet.node(name).api.status()).peerId, name] as const),
  ).then((pairs) => new Map(pairs));
  for (const client of fleet.clients) t.equal((await client.cli('up', '--region', 'us')).code, 0);
  for (const client of fleet.clients) t.equal(names.get((await activeOf(client)).supernodeId), 'a');
  await fleet.join('d');

  const pings = await Promise.all(fleet.clients.map(({ host }) => Pings.start(host, fleet.web)));
  const drained = await a.cli('supernode', 'drain', '--timeout', '60s');
  t.equal(drained.code, 0, drained.stderr + drained.stdout);
  t.match(drained.stdout, /empty: nobody is left/);
  if (drained.code !== 0) for (const client of fleet.clients) t.comment((await client.cli('events')).stdout);

  for (const { name, host } of fleet.clients) {
    const connections = await host.exec(['ss', '-Htn', 'dport', '=', ':443']);
    t.notMatch(connections, /^\S+ +\d+ +\d+ 10\./m, `no stream of ${name} goes through its tunnel`);
  }
  const homeOfX1 = fleet.home('x1').publicIpv4;
  for (const client of fleet.clients) {
    t.equal(await fleet.seenIp(client.host), homeOfX1, `${client.name} is still at its exit’s`);
    t.not(names.get((await activeOf(client)).supernodeId), 'a', 'over another supernode');
  }
  const counted = await Promise.all(pings.map((each) => each.stop()));
  for (const { sent, lost } of counted) t.equal(lost, 0, `of ${sent} packets`);
  t.same((await a.api.status()).sessions, [], 'it has no session any more');
  const left = await eventually(
    () => relayElements(a),
    (elements) => elements === 0,
  );
  t.equal(left, 0, 'nor anything in its kernel');
  t.same(
    (await eventsOf(a)).filter((code) => code.startsWith('drain')),
    ['drain-started', 'drain-ended'],
  );

  await t.test('its exit is found under another supernode', async (t) => {
    const exits = await fleet.node('c1').json<{ region: string }[]>('exits');
    t.ok(
      exits.some(({ region }) => region === 'eu'),
      'the exit that was connected to it',
    );
  });

  await t.test('SIGTERM does the same: an upgrade goes unnoticed', async (t) => {
    await a.stop();
    await a.start();
    const [first] = fleet.clients;
    if (first === undefined) throw new Error('there are clients');
    const { supernodeId } = await activeOf(first);
    const others = [d, fleet.node('b')];
    const ids = await Promise.all(others.map(async (node) => (await node.api.status()).peerId));
    const used = others[ids.indexOf(supernodeId)];
    if (used === undefined) throw new Error(`nobody has the session: ${supernodeId}`);
    const running = await Promise.all(fleet.clients.map(({ host }) => Pings.start(host, fleet.web)));
    used.process.kill('SIGTERM');
    const { code } = await used.process.exited;
    t.equal(code, 0, `${used.name} ends well`);
    for (const client of fleet.clients) t.equal(await fleet.seenIp(client.host), homeOfX1);
    for (const each of running) {
      const { sent, lost } = await each.stop();
      t.equal(lost, 0, `of ${sent} packets`);
    }
  });
});
