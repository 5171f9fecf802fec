import { createHash } from 'node:crypto';
import { writeSync } from 'node:fs';
import { commandIdOf, parsePeerId, peerIdOf, sessionIdOf } from '../../src/model/ids.js';
import { instantOf, ms } from '../../src/model/time.js';
import { openBaseStore } from '../../src/store/sqlite/open.js';

/** The other process of the store's contract suite: `write <dir>` until it is killed, `redeem <dir> <name>` on a line. */
const [task, dir, name] = process.argv.slice(2);
const hash = (text: string) => new Uint8Array(createHash('sha256').update(text).digest());
const say = (text: string) => writeSync(1, `${text}\n`);

if (task === 'write' && dir !== undefined) {
  const store = openBaseStore(dir);
  for (let n = 0; ; n++) {
    const session = sessionIdOf(hash(`session ${n % 7}`).slice(0, 16));
    const command = commandIdOf(hash(`command ${n}`).slice(0, 16));
    const owner = peerIdOf(hash('owner'));
    if (!session.ok || !command.ok || !owner.ok) throw new Error('ids');
    store.facts.put(`fact/${n}`, { n });
    store.ledger.record(
      {
        id: command.value,
        session: session.value,
        generation: n,
        contentHash: hash(`content ${n}`),
        response: { offer: undefined },
        appliedAt: instantOf(n),
      },
      {
        session: session.value,
        generation: n,
        owner: owner.value,
        desired: [{ kind: 'disconnect', reason: `${n}` }],
        leaseUntil: instantOf(n + ms(1)),
        updatedAt: instantOf(n),
      },
    );
    say(String(n));
  }
}

if (task === 'redeem' && dir !== undefined && name !== undefined) {
  const store = openBaseStore(dir);
  process.stdin.once('data', async () => {
    process.stdin.pause();
    const uses = Array.from({ length: 100 }, (_, i) => {
      const peer = peerIdOf(hash(`${name} ${i}`));
      if (!peer.ok || !parsePeerId(peer.value).ok) throw new Error('ids');
      return store.directory.redeem(
        hash('secret'),
        { peer: peer.value, role: 'exit', region: undefined },
        instantOf(1),
      );
    });
    const outcomes = await Promise.all(uses);
    const blocks = await Promise.all(
      Array.from({ length: 20 }, (_, i) => {
        const peer = peerIdOf(hash(`${name} ${i}`));
        if (!peer.ok) throw new Error('ids');
        return store.directory.leaseBlocks(peer.value, 3, 1000, instantOf(1));
      }),
    );
    store.close();
    say(JSON.stringify({ won: outcomes.filter(({ ok }) => ok).length, blocks: blocks.flat() }));
  });
  say('ready');
}
