/** `node dist/bench/base/store.js <peers>`: what base's store alone costs with so many members, CPU and wall clock for each call. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { openSodium } from '../../src/identity/sodium.js';
import type { PeerId } from '../../src/model/ids.js';
import { instantOf } from '../../src/model/time.js';
import { openBaseStore, STORE_FILE } from '../../src/store/sqlite/open.js';
import { fill } from './fill.js';

const peers = Number(process.argv[2] ?? 300_000);
const { crypto } = await openSodium();
const dir = mkdtempSync(join(tmpdir(), 'vpnd-bench-store-'));

async function each(what: string, times: number, act: (n: number) => unknown): Promise<void> {
  const cpu = process.cpuUsage();
  const began = performance.now();
  for (let n = 0; n < times; n++) await act(n);
  const { user, system } = process.cpuUsage(cpu);
  const [cpuMs, ms] = [(user + system) / 1000 / times, (performance.now() - began) / times];
  console.log(`${what}: ${cpuMs.toFixed(3)} ms of CPU, ${ms.toFixed(3)} ms`);
}

try {
  const size = { supernodes: 1_000, peers, regions: 20, revoked: 10_000, known: 2_000, auditEvery: 10 };
  const { megabytes, seconds, peers: known, supernodes, token } = await fill(dir, size, crypto);
  console.log(`${peers} peers in ${seconds.toFixed(0)} s: ${megabytes.toFixed(0)} MB`);
  const ids = known.map(({ identity }) => identity.id);
  const id = (n: number): PeerId => ids[n % ids.length] ?? ('' as PeerId);
  const now = () => instantOf(Date.now());
  const db = new Database(join(dir, STORE_FILE), { readonly: true });
  const everybody = db.prepare('SELECT * FROM member ORDER BY peer');
  await each('all members in one turn, as status once read three times', 1, () => everybody.all().length);
  db.close();
  await each('opening the store', 3, () => openBaseStore(dir).close());
  const store = openBaseStore(dir);
  const { directory } = store;
  await each('census', 200, () => directory.census());
  await each('a member', 20_000, (n) => directory.member(id(n)));
  await each('members by the beginning of an id', 2_000, (n) =>
    directory.members({ beginning: id(n).slice(0, 10), limit: 2 }),
  );
  await each('two thousand members', 20, (n) => directory.members({ after: id(n), limit: 2_000 }));
  await each('a list of revocations put in place', 2, async () =>
    directory.adoptRevocations(await directory.revocations()),
  );
  const hash = crypto.sha256(token);
  const wish = () => ({ peer: crypto.newIdentity().identity.id, role: 'client', region: undefined }) as const;
  await each('an enrolment', 300, () => directory.redeem(hash, wish(), now()));
  await each('ten blocks for each supernode', supernodes.length, (n) =>
    directory.leaseBlocks(supernodes[n]?.identity.id ?? id(0), 10, 16_383, now()),
  );
  store.close();
} finally {
  rmSync(dir, { recursive: true, force: true });
}
