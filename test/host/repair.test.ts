import t, { type Test } from 'tap';
import { ADDRESSES, Overlay, type OverlayNode } from '../../chaos/overlay/index.js';
import { activeOf, eventsOf } from '../support/fleet-checks.js';
import { eventually, relayElements } from '../support/overlay-checks.js';

const METRICS_PORT = { base: 9470, supernode: 9471, exit: 9472, client: 9473 } as const;

/** What a node says it has repaired: kinds of things, with how often. */
async function repairs(node: OverlayNode): Promise<Record<string, number>> {
  const text = await node.host.exec(['curl', '-sS', `http://127.0.0.1:${METRICS_PORT[node.role]}/metrics`]);
  const found = [...text.matchAll(/^dataplane_repairs_total\{what="([a-z-]+)"\} (\d+)$/gm)];
  return Object.fromEntries(found.map(([, what = '', count]) => [what, Number(count)]));
}

/** What an administrator may have on any machine, with names and numbers that are not ours. */
const FOREIGN = {
  nft: 'table inet mine { chain input { type filter hook input priority 5; policy accept; tcp dport 9999 drop; }; }\n',
  rule: 'from 10.99.0.0/16 lookup 99 priority 99',
};

async function leaveForeignState({ host }: OverlayNode): Promise<void> {
  await host.nft(FOREIGN.nft);
  await host.ip(
    `rule add ${FOREIGN.rule}`,
    'link add mine0 type veth peer name mine1',
    'addr add 10.99.0.1/16 dev mine0',
  );
}

async function foreignState({ host }: OverlayNode): Promise<string> {
  const [table, rules, link] = await Promise.all([
    host.exec(['nft', 'list', 'table', 'inet', 'mine']),
    host.exec(['ip', 'rule', 'show', 'priority', '99']),
    host.exec(['ip', '-br', 'addr', 'show', 'mine0']),
  ]);
  return table + rules + link;
}

t.test('what somebody deletes is back within half a minute, and what is not ours stays as it is', async (t) => {
  const overlay = await Overlay.start({ clientArgs: ['--standby', 'off'] });
  t.teardown(() => overlay.close());
  const { a, b, exit, client } = overlay;
  t.equal((await client.cli('up', '--privacy', 'private')).code, 0);
  const nodes = [a, b, exit, client];
  for (const node of nodes) await leaveForeignState(node);
  const foreign = await Promise.all(nodes.map(foreignState));
  const elements = await relayElements(a);
  const before = await Promise.all(nodes.map(repairs));

  const total = (counts: Record<string, number> = {}) => Object.values(counts).reduce((sum, one) => sum + one, 0);
  const counts = async (t: Test, which: readonly OverlayNode[]) => {
    for (const node of which) {
      const was = total(before[nodes.indexOf(node)]);
      const now = await eventually(
        () => repairs(node),
        (seen) => total(seen) > was,
        45_000,
      );
      t.ok(total(now) > was, `${node.name}: ${JSON.stringify(now)}`);
    }
  };
  const tables = async ({ host }: OverlayNode) =>
    (await host.exec(['nft', 'list', 'tables'])).split('\n').filter((line) => /vpnd/.test(line));
  const destroy = async (node: OverlayNode, verb: 'delete' | 'flush') => {
    const found = await tables(node);
    t.ok(found.length > 0, `${node.name} has tables of ours`);
    await node.host.nft(found.map((table) => `${verb} ${table}\n`).join(''));
  };

  await t.test('a client’s guard, while everything goes on', async (t) => {
    const had = await tables(client);
    await destroy(client, 'delete');
    await counts(t, [client]);
    t.same(await tables(client), had);
    t.ok((await eventsOf(client)).includes('repaired'), 'vpnd events tells of it');
  });

  // Of the relay A the whole table, of B what is in it, of the exit its contract and its NAT.
  await destroy(a, 'delete');
  await destroy(b, 'flush');
  await destroy(exit, 'delete');
  const works = () => overlay.fetch(`${overlay.web.url}/`, 2);
  const carries = ({ ok, body }: { ok: boolean; body: string }) => ok && JSON.parse(body).ip === ADDRESSES.exitHome;
  const seen = await eventually(works, carries, 45_000);
  t.match(JSON.parse(seen.body), { ip: ADDRESSES.exitHome }, 'traffic passes as before');
  await eventually(
    () => relayElements(a),
    (count) => count === elements,
    45_000,
  );

  await t.test('each repair is counted', (t) => counts(t, [a, b, exit]));

  await t.test('without its peer or its interface an exit is left, and usable again at once', async (t) => {
    const [peer = ''] = (await exit.host.exec(['wg', 'show', 'wg-exit', 'peers'])).split('\n');
    await exit.host.exec(['wg', 'set', 'wg-exit', 'peer', peer, 'remove']);
    t.ok((await eventually(works, carries, 45_000)).ok, 'the session is replaced, or its peer is back');
    await exit.host.ip('link del wg-exit');
    t.ok((await eventually(works, carries, 60_000)).ok);
  });

  await t.test('nor can a client do without its rules or its interface, and has them again', async (t) => {
    const rules = (await client.host.exec(['ip', '-4', 'rule', 'show'])).split('\n');
    for (const rule of rules) {
      const priority = /^(\d+):/.exec(rule)?.[1];
      if (priority !== undefined && !['0', '99', '32766', '32767'].includes(priority))
        await client.host.ip(`-4 rule del priority ${priority}`).catch(() => undefined);
    }
    t.ok((await eventually(works, carries, 45_000)).ok);
    await client.host.ip(`link del ${(await activeOf(client)).device}`);
    t.ok((await eventually(works, carries, 60_000)).ok);
  });

  t.same(
    await Promise.all(nodes.map(foreignState)),
    foreign,
    'other people’s tables, rules and interfaces are untouched',
  );
});
