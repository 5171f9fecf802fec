import t from 'tap';
import { verifyChain } from '../../src/core/audit-chain.js';
import type { AuditEvent } from '../../src/core/ports/audit.js';
import { VpndError } from '../../src/model/errors.js';
import { instantOf } from '../../src/model/time.js';
import { entriesOf } from '../../src/obs/audit.js';
import { anEvent, auditWorld } from '../support/audited.js';

const FULL = new VpndError('disk-full', 'vpnd.db cannot be written: the disk is full; free some space', {
  retryable: true,
});
type World = ReturnType<typeof auditWorld>;
const verdict = ({ store: { audit }, key, crypto }: World) =>
  verifyChain(
    { entries: entriesOf(audit), head: audit.head(), anchor: audit.anchor(), checkpoints: audit.checkpoints() },
    { keys: [key], crypto },
  );
const said = (world: World) => [...entriesOf(world.store.audit)].map(({ code, on }) => `${code} ${on}`);

t.test('what was recorded is there after a crash, and the chain goes on', async (t) => {
  const world = auditWorld();
  await world.audit.record(anEvent(1), anEvent(2));
  world.crash();
  await world.audit.record(anEvent(3));
  world.restart();
  await world.audit.record(anEvent(4));
  t.same(
    said(world),
    [1, 2, 3, 4].map((n) => `token-made token:0000000${n}`),
  );
  t.match(verdict(world), { checked: 4, fault: undefined });
  const [first] = world.store.audit.read(1, 1);
  t.match(first, { by: 'operator', at: Date.UTC(2026, 0, 1), detail: '{"role":"exit","uses":1}' });
});

t.test('notes and records stand in the order they came', async (t) => {
  const world = auditWorld();
  const note = (n: number) => world.audit.note({ ...anEvent(n), code: 'membership-renewed' });
  note(1);
  const recorded = world.audit.record(anEvent(2));
  note(3);
  await recorded;
  t.same(said(world), [
    'membership-renewed token:00000001',
    'token-made token:00000002',
    'membership-renewed token:00000003',
  ]);
});

t.test('a full disk refuses what must be recorded, and remembers what happened anyway', async (t) => {
  const world = auditWorld();
  await world.audit.record(anEvent(1));
  world.store.failWrites(FULL);
  await t.rejects(world.audit.record(anEvent(2)), {
    code: 'disk-full',
    message: /^not done, since the audit log cannot record it: .*free some space/,
    retryable: true,
  });
  t.match(world.audit.problem(), /the audit log cannot be written.*disk is full/);
  for (let n = 0; n < 1_005; n++) world.audit.note({ ...anEvent(n), code: 'membership-renewed' });
  await world.clock.advance(60_000);
  t.equal(world.log.lines.filter(({ level }) => level === 'error').length, 1, 'said once');
  world.store.failWrites(undefined);
  await world.clock.advance(60_000);
  t.equal(world.audit.problem(), undefined);
  const entries = [...entriesOf(world.store.audit)];
  t.equal(entries.filter(({ code }) => code === 'membership-renewed').length, 1_000, 'those it had room for');
  t.match(
    entries.find(({ code }) => code === 'audit-gap'),
    { detail: /"missed":5/ },
    'and how many it had not',
  );
  t.same(entries.filter(({ code }) => code === 'token-made').length, 1, 'and nothing of what was refused');
  t.equal(verdict(world).fault, undefined);
});

t.test('secrets and addresses that a caller lets slip are cut', async (t) => {
  const world = auditWorld();
  const token = `vpnd1${'abcdefgh'.repeat(12)}`;
  const key = 'q83vEjRWeJASNFZ4kBI0VniQEjRWeJASNFZ4kBI0Vng=';
  await world.audit.record({
    code: 'token-made',
    by: 'operator',
    on: `token ${token}`,
    detail: { note: `for 203.0.113.9 and 2001:db8::9\n${key}`, ok: true },
  } as AuditEvent);
  const [entry] = world.store.audit.read(1, 1);
  const text = JSON.stringify(entry);
  for (const secret of [token, key, '203.0.113.9', '2001:db8::9', '\\n']) t.notMatch(text, secret);
  t.equal(entry?.detail, '{"note":"for [address] and [address] q83vEj…","ok":true}');
});

t.test('old entries go, up to a point that the node signs, and the rest still verifies', async (t) => {
  const world = auditWorld();
  await world.fill(200);
  const start = Date.UTC(2026, 0, 1);
  t.equal(world.audit.forget(instantOf(start)), 0);
  t.equal(world.audit.forget(instantOf(start + 100_000)), 100);
  await world.clock.advance(0);
  t.match(verdict(world), { first: 101, last: 201, checked: 101, fault: undefined });
  t.match(said(world).at(-1), 'audit-pruned audit');
  world.restart();
  await world.fill(1);
  t.equal(verdict(world).fault, undefined);
  t.notMatch(JSON.stringify(world.log.lines), 'not as this node left it');
  t.equal(world.audit.forget(instantOf(start + 1e9)), 101, 'all but the newest');
  await world.clock.advance(0);
  t.match(verdict(world), { checked: 2, fault: undefined });
  const anchor = world.store.audit.anchor();
  if (anchor === undefined) throw new Error('no anchor');
  const forged = { ...anchor, sequence: anchor.sequence - 1 };
  const { audit } = world.store;
  const found = { entries: entriesOf(audit), head: audit.head(), checkpoints: audit.checkpoints(), anchor: forged };
  t.match(verifyChain(found, { keys: [world.key], crypto: world.crypto }).fault, { what: /not signed by this node/ });
});

t.test('checkpoints go to the log, for a place that a rewriter of this disk does not reach', async (t) => {
  const world = auditWorld();
  await world.fill(64);
  t.match(world.log.lines.at(-1)?.text, /^audit checkpoint 64:[0-9a-f]{40}$/);
  world.audit.close();
  await t.rejects(world.audit.record(anEvent(1)), { code: 'closed' });
});
