import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Capture } from '../../chaos/lab/index.js';
import { ADDRESSES, Overlay, type OverlayNode } from '../../chaos/overlay/index.js';

/** The table of docs/security.md: what each node would have to tell whoever breaks into it. */
const CANARY = 'the-canary-in-the-request';

t.test('who learns what of a session over two supernodes', async (t) => {
  const overlay = await Overlay.start({ clientArgs: ['--privacy', 'private'] });
  t.teardown(() => overlay.close());
  const { base, a, b, exit, client, web } = overlay;
  const captures = new Map<OverlayNode, Capture>();
  for (const node of [base, a, b, exit]) captures.set(node, await node.host.capture('eth0'));

  t.equal((await client.cli('up', '--privacy', 'private')).code, 0);
  t.equal(await overlay.seenIp(`${web.url}/?${CANARY}`), ADDRESSES.exitHome);
  const { peerId } = await client.json<{ peerId: string }>('status');
  const told = new Map<OverlayNode, string>();
  for (const node of [base, a, b, exit]) told.set(node, (await node.cli('status', '--json')).stdout);
  t.equal((await client.cli('down')).code, 0);
  const packets = new Map<OverlayNode, Awaited<ReturnType<Capture['stop']>>>();
  for (const [node, capture] of captures) packets.set(node, await capture.stop());

  const addressesAt = (node: OverlayNode): ReadonlySet<string> =>
    new Set(
      (packets.get(node)?.packets ?? []).flatMap(({ packet }) => (packet.ip ? [packet.ip.from, packet.ip.to] : [])),
    );
  /** In packets, in what the daemon tells and logs, and in its files. */
  const knows = (node: OverlayNode, what: string): string[] => [
    ...(addressesAt(node).has(what) || (packets.get(node)?.containing(what) ?? 0) > 0 ? ['packets'] : []),
    ...(told.get(node)?.includes(what) ? ['status'] : []),
    ...([...node.process.lines('stdout'), ...node.process.lines('stderr')].some((line) => line.includes(what))
      ? ['log']
      : []),
    ...(filesOf(node).includes(what) ? ['database'] : []),
  ];

  await t.test('the client’s supernode', async (t) => {
    t.ok(knows(a, ADDRESSES.clientHome).includes('packets'), 'knows the client’s address: it must');
    t.same(knows(a, ADDRESSES.web), [], 'and not where traffic goes');
    t.same(knows(a, CANARY), [], 'nor what is in it');
  });
  await t.test('the exit’s supernode', async (t) => {
    t.ok(knows(b, ADDRESSES.exitHome).includes('packets'), 'knows the exit’s address: it must');
    t.same(knows(b, ADDRESSES.clientHome), [], 'and not the client’s');
    t.same(knows(b, peerId), [], 'nor who the client is');
    t.same(knows(b, ADDRESSES.web), [], 'nor where traffic goes');
    t.same(knows(b, CANARY), [], 'nor what is in it');
  });
  await t.test('the exit', async (t) => {
    t.ok(knows(exit, ADDRESSES.web).includes('packets'), 'knows destinations: it must');
    t.same(knows(exit, ADDRESSES.clientHome), [], 'and not the client’s address');
    t.same(knows(exit, peerId), [], 'nor who the client is');
  });
  await t.test('base', async (t) => {
    t.same(knows(base, ADDRESSES.web), [], 'does not know where traffic goes');
    t.same(knows(base, CANARY), [], 'nor what is in it');
    t.same(addressesAt(base).has(ADDRESSES.clientHome), false, 'and hears nothing of a client once it has enrolled');
  });
  await t.test('the client’s address is in no log at all', async (t) => {
    for (const node of [base, a, b, exit]) t.notOk(knows(node, ADDRESSES.clientHome).includes('log'), node.name);
  });
});

function filesOf(node: OverlayNode): string {
  return ['vpnd.db', 'vpnd.db-wal']
    .map((name) => {
      try {
        return readFileSync(join(node.stateDir, name), 'latin1');
      } catch {
        return '';
      }
    })
    .join('\n');
}
