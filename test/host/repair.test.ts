import t from 'tap';
import { ADDRESSES, Overlay, type OverlayNode } from '../../chaos/overlay/index.js';
import { eventsOf } from '../support/fleet-checks.js';
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

  const relayTables = (await a.host.exec(['nft', 'list', 'tables'])).split('\n').filter((line) => /vpnd/.test(line));
  t.ok(relayTables.length > 0);
  await a.host.nft(relayTables.map((table) => `delete ${table}\n`).join(''));
  const [peer = ''] = (await exit.host.exec(['wg', 'show', 'wg-exit', 'peers'])).split('\n');
  await exit.host.exec(['wg', 'set', 'wg-exit', 'peer', peer, 'remove']);
  const ofB = await b.host.exec(['nft', 'list', 'tables']);
  await b.host.nft(
    ofB
      .split('\n')
      .filter((line) => /vpnd/.test(line))
      .map((table) => `flush ${table}\n`)
      .join(''),
  );
  const rules = (await client.host.exec(['ip', '-4', 'rule', 'show'])).split('\n');
  for (const rule of rules) {
    const priority = /^(\d+):/.exec(rule)?.[1];
    if (priority !== undefined && !['0', '99', '32766', '32767'].includes(priority))
      await client.host.ip(`-4 rule del priority ${priority}`).catch(() => undefined);
  }

  const works = () => overlay.fetch(`${overlay.web.url}/`, 2);
  const seen = await eventually(works, ({ ok, body }) => ok && JSON.parse(body).ip === ADDRESSES.exitHome, 45_000);
  t.match(JSON.parse(seen.body), { ip: ADDRESSES.exitHome }, 'traffic passes as before');
  await eventually(
    () => relayElements(a),
    (count) => count === elements,
    45_000,
  );

  await t.test('each repair is counted, and told', async (t) => {
    for (const [i, node] of nodes.entries()) {
      const total = (counts: Record<string, number> = {}) => Object.values(counts).reduce((sum, one) => sum + one, 0);
      const now = await eventually(
        () => repairs(node),
        (counts) => total(counts) > total(before[i]),
        45_000,
      );
      t.ok(total(now) > total(before[i]), `${node.name}: ${JSON.stringify(now)}`);
    }
    t.ok((await eventsOf(exit)).includes('repaired'));
  });

  await t.test('whole interfaces come back as well', async (t) => {
    for (const [node, device] of [
      [exit, 'wg-exit'],
      [client, 'wg-client'],
    ] as const) {
      await node.host.ip(`link del ${device}`);
    }
    const again = await eventually(works, ({ ok, body }) => ok && JSON.parse(body).ip === ADDRESSES.exitHome, 60_000);
    t.ok(again.ok, 'and carry traffic');
  });

  t.same(
    await Promise.all(nodes.map(foreignState)),
    foreign,
    'other people’s tables, rules and interfaces are untouched',
  );
});
