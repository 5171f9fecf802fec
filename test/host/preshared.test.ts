import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import Database from 'better-sqlite3';
import t from 'tap';
import { Overlay, type OverlayNode, PacketTrain } from '../../chaos/overlay/index.js';
import { eventually } from '../support/overlay-checks.js';

/** Of the one peer there is: its pre-shared key, and when it shook hands last, in seconds since the epoch. */
async function peerOf(node: OverlayNode): Promise<{ key: string; handshake: number }> {
  const keys = await node.host.exec(['wg', 'show', 'all', 'preshared-keys']);
  const times = await node.host.exec(['wg', 'show', 'all', 'latest-handshakes']);
  const last = (text: string) => text.trim().split(/\s+/).at(-1) ?? '';
  return { key: last(keys), handshake: Number(last(times)) };
}

/** The client's tunnel gets an hour older, while no daemon looks after it. */
function age(client: OverlayNode): void {
  const db = new Database(join(client.stateDir, 'vpnd.db'));
  const row = db.prepare("SELECT value FROM fact WHERE name = 'tunnels'").get() as { value: string };
  const tunnels = JSON.parse(row.value) as { held: { preshared: { since: number } } }[];
  for (const { held } of tunnels) held.preshared.since -= 3_600_000;
  db.prepare("UPDATE fact SET value = ? WHERE name = 'tunnels'").run(JSON.stringify(tunnels));
  db.close();
}

/** Files of a node's state directory with this in them, its log included. */
const filesWith = (node: OverlayNode, secret: string): readonly string[] =>
  readdirSync(node.stateDir, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)
    .filter((name) => readFileSync(join(node.stateDir, name)).includes(secret));

t.test('a tunnel gets another pre-shared key while it carries packets', async (t) => {
  const overlay = await Overlay.start({ clientArgs: ['--privacy', 'private', '--standby', 'off'] });
  t.teardown(() => overlay.close());
  const { client, exit } = overlay;
  t.equal((await client.cli('up')).code, 0);
  const first = await peerOf(client);
  t.equal(first.key.length, 44, 'there is one from the start');
  t.equal((await peerOf(exit)).key, first.key, 'the exit has the same');
  t.match((await client.cli('status')).stdout, /pre-shared +ML-KEM-768, renewed \d+ s ago/);

  const train = await PacketTrain.start(client.host, overlay.web, 50);
  await client.crash();
  age(client);
  await client.start();
  await eventually(
    () => peerOf(client),
    ({ key }) => key !== first.key,
    20_000,
  );
  const second = await peerOf(client);
  t.equal((await peerOf(exit)).key, second.key, 'both ends have the new one');

  await t.test('the next handshake is with the new key, and no packet is lost', async (t) => {
    const shaken = await eventually(
      () => peerOf(client),
      ({ handshake }) => handshake > first.handshake,
      140_000,
    );
    t.ok(shaken.handshake > first.handshake);
    await pause(2_000);
    const record = await train.stop();
    const began = record.raw.sentAt[0] ?? 0;
    t.same(record.lostAt(began), [], `of ${record.sent} packets, milliseconds after the first`);
  });

  await t.test('keys are in no argument, no log, and on no disk once the session is over', async (t) => {
    t.same(filesWith(client, second.key).length > 0, true, 'while it lives, its ends have it');
    const said = overlay.nodes.flatMap((node) => [...node.process.lines('stdout'), ...node.process.lines('stderr')]);
    t.equal((await client.cli('down')).code, 0);
    for (const key of [first.key, second.key]) {
      t.notOk(
        said.some((line) => line.includes(key)),
        'no log',
      );
      for (const node of overlay.nodes) {
        const left = await eventually(
          async () => filesWith(node, key),
          (files) => files.length === 0,
          15_000,
        );
        t.same(left, [], node.name);
      }
    }
  });
});
