import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { signMembers } from '../../bench/load/members.js';
import { Role } from '../../src/gen/vpnd/v1/types_pb.js';
import { openSodium } from '../../src/identity/sodium.js';
import type { Region } from '../../src/model/role.js';
import { instantOf } from '../../src/model/time.js';
import { localClient } from '../../src/transport/local-api-client.js';
import { Attacker } from '../support/flood/attack.js';
import type { Done } from '../support/flood/attacker.js';
import { type Daemon, Daemons, metricsAt, somePorts } from '../support/flood/daemons.js';
import { FLOODS, type FloodName } from '../support/flood/floods.js';
import { HonestPeers } from '../support/flood/honest.js';

/** Of the supernode's process: with everything that honest peers made it do, and over all floods. */
const MAY_GROW_MB = 96;
const REGION = 'eu';
/** A flood that is cut off is over then; others go on for so long. */
const ONE_FLOOD_MS = 300;
const CUT_WITHIN_MS = 15_000;
const CONNECTIONS = 6;
const ALL_FLOODS_MS = 4_000;

const daemons = new Daemons();
t.teardown(() => {
  if (!t.passing()) t.comment(daemons.lastWords());
  return daemons.stop();
});

const [basePort = 0, port = 0, metricsPort = 0, probePort = 0] = await somePorts();
const { supernode, base } = await overlay();
const { crypto } = await openSodium();
const wanted = { count: 200, region: REGION as Region, now: instantOf(Date.now()) };
const { keys, members } = signMembers(base.stateDir, supernode.stateDir, wanted, crypto);
const honest = await HonestPeers.start({ port, region: REGION, keys, members, held: 20 });
const attacker = new Attacker();
t.teardown(() => attacker.stop());

const ATTACKERS = ['127.0.6.1', '127.0.6.2', '127.0.6.3', '127.0.6.4'];
/** Not cut in so short a time: slow ones have their 30 s, and what breaks one stream only costs that stream. */
const PATIENT: ReadonlySet<FloodName> = new Set([
  'headers that break off',
  'decompression bomb',
  'garbage',
  'slow handshake',
  'slow preface',
  'slow headers',
  'slow message',
]);

t.test('each flood is cut and counted, while honest peers go on', async (t) => {
  await settled();
  const names = Object.keys(FLOODS) as FloodName[];
  for (const [i, kind] of names.entries()) {
    // Another sender for each, so that none finds the door shut that an earlier one slammed.
    const from = kind === 'handshakes' ? ['127.0.9.1'] : [`127.0.${10 + i}.1`, `127.0.${10 + i}.2`];
    const before = await metricsAt(metricsPort);
    const lasting = PATIENT.has(kind) ? { ms: ONE_FLOOD_MS } : { ms: CUT_WITHIN_MS, until: CONNECTIONS };
    const done = await attacker.attack({ kind, port, from, connections: CONNECTIONS, ...lasting });
    const refused = PATIENT.has(kind) ? 0 : await moreRefused(before);
    t.comment(`${kind}: ${said(done)}, slowest honest answer ${honest.slowest()} ms, ${supernode.memory()} MB`);
    t.same(honest.failures, [], `honest peers beside ${kind}`);
    t.ok(done.opened > 0, `${kind} came`);
    if (PATIENT.has(kind)) continue;
    t.ok(refused > 0, `${kind} is counted`);
    t.ok(done.closed >= CONNECTIONS, `${kind} is cut off`);
  }
  const udp = { kind: 'udp', port: probePort, from: ATTACKERS, connections: 1, ms: ONE_FLOOD_MS } as const;
  t.comment(`udp: ${said(await attacker.attack(udp))}, slowest honest answer ${honest.slowest()} ms`);
  t.same(honest.failures, [], 'honest peers beside a flood of datagrams');
});

t.test('all of them together do not stop honest peers, and leave nothing behind', async (t) => {
  const { memory, files } = await settled();
  const { pings, newcomers, sessions } = { ...honest.answered };
  const kinds = [...(Object.keys(FLOODS) as FloodName[]), 'udp'] as const;
  const orders = kinds.map((kind, i) => ({
    kind,
    port: kind === 'udp' ? probePort : port,
    from: [`127.0.${50 + i}.1`, `127.0.${50 + i}.2`],
    connections: 4,
    ms: ALL_FLOODS_MS,
  }));
  let peak = 0;
  const watching = setInterval(() => {
    peak = Math.max(peak, supernode.memory());
  }, 100);
  const done = await Promise.all(orders.map((order) => attacker.attack(order)));
  clearInterval(watching);
  const sum = (what: 'opened' | 'closed' | 'bytes') => done.reduce((all, one) => all + one[what], 0);
  const all = { opened: sum('opened'), closed: sum('closed'), bytes: sum('bytes') };
  t.comment(`all: ${said(all)}, slowest honest answer ${honest.slowest()} ms, peak ${peak} MB`);
  t.same(honest.failures, [], 'honest peers beside all floods');
  t.ok(honest.answered.pings - pings >= 20, 'their streams were held, and answered');
  t.ok(honest.answered.newcomers - newcomers >= 2, 'newcomers came in');
  t.ok(honest.answered.sessions - sessions >= 2, 'commands were pushed, and sessions made');
  t.ok(peak - memory < MAY_GROW_MB, `${peak - memory} MB more at the worst`);
  const open = await noMoreFilesThan(files + 6);
  t.ok(open <= files + 6, `${files} files open before, ${open} after`);
  const after = await settled();
  t.ok(after.memory - memory < MAY_GROW_MB, `${after.memory - memory} MB more afterwards`);
  await honest.stop();
  t.same(honest.failures, [], 'honest peers afterwards');
});

/** base, a supernode and an exit; clients are what honest peers are. */
async function overlay(): Promise<{ readonly base: Daemon; readonly supernode: Daemon }> {
  const at = (port: number) => ['--listen', `127.0.0.1:${port}`, '--advertise', `127.0.0.1:${port}`];
  const inMemory = ['--dataplane', 'memory', '--region', REGION];
  const base = await daemons.start('base', {}, ...at(basePort), '--metrics', 'off');
  const token = async (role: Role) => {
    const made = await localClient(base.socket).createToken({ role, region: REGION, uses: 1, ttlMs: 600_000n });
    return { VPND_JOIN: made.token };
  };
  const ports = [
    '--relay-ports',
    '61000-62000',
    '--probe-port',
    `${probePort}`,
    '--metrics',
    `127.0.0.1:${metricsPort}`,
  ];
  const supernode = await daemons.start('supernode', await token(Role.SUPERNODE), ...at(port), ...ports, ...inMemory);
  const direct = ['--public-endpoint', '203.0.113.9:51820', '--metrics', 'off'];
  await daemons.start('exit', await token(Role.EXIT), ...direct, ...inMemory);
  return { base, supernode };
}

/** Whoever says nothing has thirty seconds to show who he is; then his connection goes, too. Resolves with what is open. */
async function noMoreFilesThan(most: number): Promise<number> {
  const giveUp = performance.now() + 60_000;
  for (;;) {
    const open = supernode.openFiles();
    if (open <= most || performance.now() > giveUp) return open;
    await pause(100);
  }
}

/** Once connections come and go no more: resident memory and open files. */
async function settled(): Promise<{ readonly memory: number; readonly files: number }> {
  for (let same = 0, files = supernode.openFiles(); ; ) {
    await pause(100);
    const now = supernode.openFiles();
    same = Math.abs(now - files) <= 1 ? same + 1 : 0;
    files = now;
    if (same >= 5) return { memory: supernode.memory(), files };
  }
}

/** How many more connections were refused since; waits for the first. */
async function moreRefused(before: ReadonlyMap<string, number>): Promise<number> {
  for (let looks = 0; looks < 40; looks++) {
    const more = refusedIn(await metricsAt(metricsPort)) - refusedIn(before);
    if (more > 0) return more;
    await pause(50);
  }
  return 0;
}

const refusedIn = (metrics: ReadonlyMap<string, number>): number =>
  [...metrics].reduce((sum, [name, value]) => sum + (name.startsWith('connections_refused_total') ? value : 0), 0);

function said({ opened, closed, bytes }: Omit<Done, 'kind'>): string {
  return `${opened} connections, ${closed} closed, ${Math.round(bytes / 1024)} KB`;
}
