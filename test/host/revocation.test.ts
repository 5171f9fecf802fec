import t from 'tap';
import { activeSession, Fleet, statusOf, withStandby } from '../../chaos/overlay/index.js';
import { eventually, relayElements, wireGuardPeers } from '../support/overlay-checks.js';

t.test('nodes that are shut out have nothing left anywhere, with nobody asking again', async (t) => {
  const fleet = await Fleet.build({
    supernodes: [
      { name: 'a', region: 'eu' },
      { name: 'd', region: 'eu' },
      { name: 'b', region: 'us' },
    ],
    exits: [
      { name: 'x1', region: 'us' },
      { name: 'x2', region: 'us' },
    ],
    clients: [{ name: 'c1', region: 'eu' }],
  });
  t.teardown(() => fleet.close());
  await fleet.base.start();
  for (const name of ['a', 'd', 'b', 'x1', 'x2', 'c1']) await fleet.join(name);
  const [base, client] = [fleet.base, fleet.node('c1')];
  const ids = new Map<string, string>();
  for (const name of ['a', 'd', 'b', 'x1', 'x2', 'c1']) ids.set((await fleet.node(name).api.status()).peerId, name);
  const idOf = (name: string) => [...ids].find(([, one]) => one === name)?.[0] ?? '';
  /** Until every look has found it so; says how long that took, from before the command to the begin of the last look. */
  const soon = async (what: string, order: () => Promise<unknown>, looks: (() => Promise<boolean>)[]) => {
    const began = performance.now();
    const done = order();
    const took = await Promise.all(
      looks.map((look) =>
        eventually(
          async () => {
            const at = performance.now() - began;
            return { at, so: await look() };
          },
          ({ so }) => so,
        ),
      ),
    );
    await done;
    t.ok(
      took.every(({ so }) => so),
      what,
    );
    t.comment(`${what}: gone after ${Math.round(Math.max(...took.map(({ at }) => at)))} ms`);
  };
  const usesNone = (of: string) => async () => {
    const { sessions } = await client.api.status();
    return sessions.every((one) => ids.get(one.exitId) !== of && one.via.every((id) => ids.get(id) !== of));
  };
  const hasNoPeer = (at: string, of: string) => async () =>
    (await fleet.node(at).api.status()).peers.every(({ peerId }) => ids.get(peerId) !== of);

  await client.cli('up', '--region', 'us');
  const first = activeSession(await withStandby(client));
  const exit = ids.get(first?.exitId ?? '') ?? '';
  const other = exit === 'x1' ? 'x2' : 'x1';
  await soon('a revoked exit', () => base.api.revokeMember({ peer: idOf(exit), reason: 'logs everything' }), [
    usesNone(exit),
    ...['a', 'd', 'b'].map((name) => hasNoPeer(name, exit)),
  ]);
  await statusOf(client, (status) => activeSession(status)?.state === 'up');
  t.equal(await fleet.seenIp(client.host), fleet.home(other).publicIpv4, 'its client is at another one');

  await withStandby(client);
  const at = ids.get(activeSession(await client.api.status())?.supernodeId ?? '') ?? '';
  await soon('a banned supernode', () => base.api.revokeMember({ peer: idOf(at), supernode: true }), [
    usesNone(at),
    async () => (await base.api.status()).peers.every(({ peerId }) => ids.get(peerId) !== at),
  ]);
  await statusOf(client, (status) => activeSession(status)?.state === 'up');
  t.equal(await fleet.seenIp(client.host), fleet.home(other).publicIpv4);

  const supernodes = ['a', 'd', 'b'].filter((name) => name !== at).map((name) => fleet.node(name));
  await soon('a revoked client', () => base.api.revokeMember({ peer: idOf('c1') }), [
    ...supernodes.map((node) => async () => (await relayElements(node)) === 0),
    ...supernodes.map(({ name }) => hasNoPeer(name, 'c1')),
    async () => (await wireGuardPeers(fleet.node(other))).length === 0,
  ]);
  const gone = await client.cli('up', '--region', 'us');
  t.equal(gone.code, 1);
  t.match(gone.stderr, /shut out/);

  await t.test('restarts change nothing, with base away', async (t) => {
    await base.stop();
    for (const node of [...supernodes, client]) {
      await node.crash();
      // Not until base answers would it say that it is ready.
      node.spawn();
      await eventually(
        () =>
          node.api.status().then(
            () => true,
            () => false,
          ),
        (answers) => answers,
      );
    }
    t.match(
      (await statusOf(client, ({ problems }) => /shut out/.test(problems.join()))).upstream?.state,
      /down|dial|auth/,
    );
    t.equal((await client.cli('up', '--region', 'us')).code, 1);
    for (const node of supernodes) t.equal(await relayElements(node), 0, node.name);
  });

  await t.test('let in again, it is back by itself', async (t) => {
    await base.start();
    const members = await base.json<{ members: { peerId: string; revokedMs: string; reason: string }[] }>(
      'members',
      '--revoked',
    );
    t.same(new Set(members.members.map(({ peerId }) => ids.get(peerId))), new Set([exit, at, 'c1']));
    const back = await base.cli('unrevoke', idOf('c1').slice(0, 12));
    t.equal(back.code, 0, back.stderr);
    await statusOf(client, ({ upstream }) => upstream?.state === 'up');
    t.equal((await client.cli('up', '--region', 'us')).code, 0);
    t.equal(await fleet.seenIp(client.host), fleet.home(other).publicIpv4);
  });
});
