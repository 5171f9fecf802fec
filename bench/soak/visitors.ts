/**
 * Clients that come and go: each connects to a supernode, shows its membership, asks for an exit, keeps the session for
 * a while, closes it and leaves. They are all of the control plane that a client is, and have no tunnel: what they ask
 * for becomes real relay ports, a real peer at a real exit and a real offer. Reads `VisitOrders` as JSON from standard
 * input and prints a `VisitTally` regularly; at SIGTERM it lets the visits under way end, and prints the last one.
 */
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { openSodium } from '../../src/identity/sodium.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import type { PeerId } from '../../src/model/ids.js';
import type { Millis } from '../../src/model/time.js';
import { seededRandom } from '../../test/support/seeded-random.js';
import { bytesOf } from '../load/members.js';
import { openRawStream, trusting } from '../load/raw-stream.js';
import { Talk, type Visitor } from './talk.js';
import type { VisitOrders, VisitTally } from './visit-orders.js';

const STREAM_LIMIT_MS = 20_000;
/** After SIGTERM. */
const LEAVE_LIMIT_MS = 60_000;
const PRIVATE_PERCENT = 50;

type Visit = 'closed' | 'vanished';

const { crypto, random } = await openSodium();
const orders = JSON.parse(await text(process.stdin)) as VisitOrders;
const { fraction: chance } = seededRandom(orders.seed);
const trust = trusting(orders.ca);
/** One for all of them: making pairs is the work of clients, and none of these has a tunnel to use the secret for. */
const kemKey = crypto.kemKeyPair().publicKey;
const idle = orders.members.map((member) => ({ member, identity: crypto.identityFromSeed(bytesOf(member.seed)) }));

let counted = fresh();
let open = 0;
let visits = 0;
let leaving = false;
/** Whoever waits, to be woken when it is time to go. */
const waiting = new Set<() => void>();
process.once('SIGTERM', () => {
  leaving = true;
  for (const wake of waiting) wake();
});

const teller = setInterval(tell, orders.tellEveryMs);
const began = performance.now();
while (!leaving) {
  const due = began + (visits / orders.perSecond) * 1000;
  const wait = due - performance.now();
  if (wait > 0) {
    await rest(wait);
    continue;
  }
  visits += 1;
  const visitor = idle.shift();
  if (visitor === undefined) counted.missed += 1;
  else void visit(visitor).finally(() => idle.push(visitor));
}
const giveUp = performance.now() + LEAVE_LIMIT_MS;
while (open > 0 && performance.now() < giveUp) await pause(50);
clearInterval(teller);
tell();
process.exit(0);

async function visit(visitor: Visitor): Promise<void> {
  open += 1;
  try {
    // Another tally may be running by then.
    const outcome = await stay(visitor);
    counted[outcome] += 1;
  } catch (thrown) {
    const why = whyOf(thrown);
    counted.failures[why] = (counted.failures[why] ?? 0) + 1;
  } finally {
    open -= 1;
  }
}

async function stay(visitor: Visitor): Promise<Visit> {
  const number = visits;
  const supernode = orders.supernodes[Math.floor(chance() * orders.supernodes.length)];
  const isPrivate = chance() * 100 < PRIVATE_PERCENT;
  const vanishes = chance() * 100 < orders.vanishPercent;
  const [least, most] = orders.holdMs;
  const holdMs = least + chance() * (most - least);
  if (supernode === undefined) throw new Error('no supernode to go to');
  const target = {
    host: supernode.host,
    port: supernode.port as Port,
    trust,
    from: (orders.from[number % orders.from.length] ?? '') as IpAddress,
    signal: AbortSignal.timeout(STREAM_LIMIT_MS),
  };
  const started = performance.now();
  const raw = await openRawStream(target);
  const talk = new Talk(raw, { crypto, random, kemKey, region: orders.region });
  try {
    await talk.enter(visitor, supernode.id as PeerId);
    counted.streamMs.push(performance.now() - started);
    const asked = performance.now();
    const grant = await talk.ask(isPrivate);
    const took = performance.now() - asked;
    counted.grantMs.push(took);
    counted.opened += 1;
    raw.stream.send({
      kind: 'event',
      news: { kind: 'session-handshake', session: grant.session, took: took as Millis },
    });
    await Promise.race([rest(holdMs), talk.ended]);
    if (vanishes && !leaving) {
      raw.cut();
      return 'vanished';
    }
    const closing = performance.now();
    await talk.close(grant.session);
    counted.closeMs.push(performance.now() - closing);
    return 'closed';
  } finally {
    raw.stream.end();
  }
}

/** Ends early when it is time to go. */
function rest(forMs: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      waiting.delete(done);
      resolve();
    };
    const timer = setTimeout(done, leaving ? 0 : forMs);
    waiting.add(done);
  });
}

/** What was said, short enough to be counted. */
function whyOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const code = 'code' in thrown ? String(thrown.code) : '';
  return code === '' || code === 'internal' ? thrown.message.slice(0, 80) : code;
}

function fresh() {
  const lists = { streamMs: [] as number[], grantMs: [] as number[], closeMs: [] as number[] };
  return { opened: 0, closed: 0, vanished: 0, missed: 0, failures: {} as Record<string, number>, ...lists };
}

function tell(): void {
  const rounded = (list: readonly number[]) => list.map((one) => Math.round(one * 10) / 10);
  const { streamMs, grantMs, closeMs } = counted;
  const lists = { streamMs: rounded(streamMs), grantMs: rounded(grantMs), closeMs: rounded(closeMs) };
  console.log(JSON.stringify({ ...counted, ...lists, at: Date.now(), open } satisfies VisitTally));
  counted = fresh();
}
