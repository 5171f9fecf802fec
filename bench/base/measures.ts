import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { enrolSigningInput, renewalSigningInput } from '../../src/core/auth.js';
import type { Log } from '../../src/core/ports/log.js';
import type { DialTarget } from '../../src/core/ports/network.js';
import type { Random } from '../../src/core/ports/random.js';
import type { SodiumCrypto } from '../../src/identity/sodium.js';
import type { Port } from '../../src/model/address.js';
import { instantOf, type Millis, seconds } from '../../src/model/time.js';
import { STORE_FILE } from '../../src/store/sqlite/open.js';
import { grpcNetwork } from '../../src/transport/grpc-network.js';
import { summarise } from '../lib/statistics.js';
import type { BaseDaemon } from './daemon.js';
import type { Filled } from './fill.js';
import { type Flood, flood } from './flood.js';
import { type Issued, SupernodeStream } from './supernode.js';

export interface Bed {
  readonly daemon: BaseDaemon;
  readonly port: number;
  readonly filled: Filled;
  readonly issued: readonly Issued[];
  readonly crypto: SodiumCrypto;
  readonly random: Random;
  readonly floodSeconds: number;
}

const CALL_LIMIT: Millis = seconds(60);
/** Each with a connection of its own, as supernodes are. */
const CALLERS = 16;
const AT_ONCE_EACH = 2;
const JOIN_AT_ONCE = 32;
const PER_ADDRESS = 40;
const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT };

/** All supernodes connect, as after base was away. */
export async function joinAll(bed: Bed) {
  const { daemon, issued } = bed;
  const waiting = issued.map((one, n) => ({ one, from: `127.0.1.${1 + Math.floor(n / PER_ADDRESS)}` }));
  const streams: SupernodeStream[] = [];
  const took: number[] = [];
  const cpu = daemon.cpu();
  const began = performance.now();
  const worker = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const started = performance.now();
      const target = { port: bed.port, from: next.from, ca: bed.filled.authority.certificate };
      streams.push(await SupernodeStream.join(next.one, target, bed.random));
      took.push(performance.now() - started);
    }
  };
  await Promise.all(Array.from({ length: JOIN_AT_ONCE }, worker));
  const joinedSeconds = (performance.now() - began) / 1000;
  await quiet(streams);
  const seconds = (performance.now() - began) / 1000;
  const megabytes = streams.reduce((sum, one) => sum + one.bytes, 0) / 2 ** 20;
  return {
    streams,
    told: {
      perSecond: streams.length / joinedSeconds,
      joinedSeconds,
      untilQuietSeconds: seconds,
      ms: summarise(took),
      cpuSeconds: daemon.cpu() - cpu,
      megabytesSent: megabytes,
      lost: streams.filter((one) => one.ended).length,
    },
  };
}

/** Until nobody has been told anything for a while. */
async function quiet(streams: readonly SupernodeStream[]): Promise<void> {
  const all = () => streams.reduce((sum, one) => sum + one.bytes, 0);
  for (let before = -1, now = all(); before !== now; before = now, now = all()) await pause(2_500);
}

/** Heartbeats as they come by themselves: every ten seconds from each, and base's own. */
export async function idle(bed: Bed, streams: readonly SupernodeStream[], forSeconds: number) {
  const every = 10_000;
  const stop = new AbortController();
  const beating = streams.map(async (one, n) => {
    await pause((every * n) / streams.length);
    while (!stop.signal.aborted) {
      void one.ping();
      await pause(every);
    }
  });
  await pause(1_000);
  const cpu = bed.daemon.cpu();
  await pause(forSeconds * 1000);
  const cpuMsPerSecond = ((bed.daemon.cpu() - cpu) * 1000) / forSeconds;
  stop.abort();
  void Promise.all(beating);
  return { cpuMsPerSecond, perSecond: (streams.length * 2 * 1000) / every };
}

export function heartbeats(bed: Bed, streams: readonly SupernodeStream[]): Promise<Flood> {
  return flood({ callers: 64, seconds: bed.floodSeconds, cpu: () => bed.daemon.cpu() }, (who, n) => {
    const stream = streams[(who * 7919 + n) % streams.length];
    return stream === undefined ? Promise.reject(new Error('no stream')) : stream.ping();
  });
}

/** What supernodes, and new members, ask of base. */
export async function calls(bed: Bed) {
  const { filled, issued, crypto, daemon } = bed;
  const networks = Array.from({ length: CALLERS }, () => grpcNetwork({ log: SILENT, random: bed.random }));
  const targets = networks.map((_, who): DialTarget => {
    const one = issued[who % issued.length];
    if (one === undefined) throw new Error('no supernode');
    const address = { host: '127.0.0.1', port: bed.port as Port };
    return { address, expect: { kind: 'base' }, ca: filled.authority.certificate, identity: () => one.tls };
  });
  const run = (
    seconds: number,
    act: (network: (typeof networks)[number], target: DialTarget, n: number) => Promise<unknown>,
  ) =>
    flood({ callers: CALLERS * AT_ONCE_EACH, seconds, cpu: () => daemon.cpu() }, (who, n) => {
      const network = networks[who % CALLERS];
      const target = targets[who % CALLERS];
      if (network === undefined || target === undefined) throw new Error('no caller');
      return act(network, target, n);
    });
  const limit = { timeout: CALL_LIMIT };
  const regions = [...new Set(issued.map((one) => one.member.region))];
  const now = () => instantOf(Date.now());
  try {
    const lookupOfRegion = await run(bed.floodSeconds, (network, target, n) =>
      network.call(target, 'requestExitRegion', { region: regions[n % regions.length] }, limit),
    );
    const lookupAnywhere = await run(bed.floodSeconds, (network, target) =>
      network.call(target, 'requestExitRegion', { region: undefined }, limit),
    );
    const renewal = await run(bed.floodSeconds, (network, target, n) => {
      const member = filled.peers[n % filled.peers.length];
      if (member === undefined) throw new Error('no peer');
      const unsigned = { peer: member.identity.id, csr: new Uint8Array(0), timestamp: now() };
      const signature = member.identity.sign(renewalSigningInput(unsigned));
      return network.call(target, 'renewMembership', { ...unsigned, signature }, limit);
    });
    const enrolment = await run(bed.floodSeconds, (network, target) => {
      const { identity } = crypto.newIdentity();
      const unsigned = {
        tokenSecret: filled.token,
        peer: identity.id,
        role: 'client',
        region: undefined,
        csr: new Uint8Array(0),
        timestamp: now(),
      } as const;
      return network.call(
        target,
        'registerPeer',
        { ...unsigned, signature: identity.sign(enrolSigningInput(unsigned)) },
        limit,
      );
    });
    return { lookupOfRegion, lookupAnywhere, renewal, enrolment };
  } finally {
    for (const network of networks) await network.close();
  }
}

/** One supernode says that it drains: until the last one has heard, and what that takes. */
export async function news(bed: Bed, streams: readonly SupernodeStream[]) {
  const [first, ...others] = streams;
  if (first === undefined) throw new Error('no stream');
  const heard = new Map(streams.map((one) => [one, one.directories]));
  const bytes = streams.reduce((sum, one) => sum + one.bytes, 0);
  const cpu = bed.daemon.cpu();
  const began = performance.now();
  first.say({ kind: 'supernode', supernode: { ...first.issued.info, draining: true } });
  const all = () => others.every((one) => one.directories > (heard.get(one) ?? 0) || one.ended);
  while (!all() && performance.now() - began < 60_000) await pause(2);
  const ms = performance.now() - began;
  await pause(1_000);
  return {
    untilTheLastHeardMs: ms,
    cpuSeconds: bed.daemon.cpu() - cpu,
    megabytesSent: (streams.reduce((sum, one) => sum + one.bytes, 0) - bytes) / 2 ** 20,
    heard: others.filter((one) => one.directories > (heard.get(one) ?? 0)).length,
  };
}

/** What an operator does, and how long heartbeats stand still meanwhile. */
export async function operator(bed: Bed, streams: readonly SupernodeStream[]) {
  const { api } = bed.daemon;
  const victim = bed.filled.peers[0]?.identity.id ?? '';
  const beginning = bed.filled.peers[1]?.identity.id.slice(0, 12) ?? '';
  return {
    status: await asked(bed, streams, 3, () => api.status()),
    revokeById: await asked(bed, streams, 1, () => api.revokeMember({ peer: victim, reason: '', supernode: false })),
    revokeByBeginning: await asked(bed, streams, 1, () =>
      api.revokeMember({ peer: beginning, reason: '', supernode: false }),
    ),
    unrevoke: await asked(bed, streams, 1, () => api.unrevokeMember({ peer: victim, supernode: false })),
    members: await asked(bed, streams, 1, () => api.listMembers()),
    createToken: await asked(bed, streams, 3, () =>
      api.createToken({ role: 4, region: 'r00', uses: 1, ttlMs: 3_600_000n, note: randomBytes(4).toString('hex') }),
    ),
    backup: await asked(bed, streams, 1, () => backup(bed)),
  };
}

async function asked(bed: Bed, streams: readonly SupernodeStream[], times: number, act: () => Promise<unknown>) {
  const took: number[] = [];
  const stood: number[] = [];
  let failure = '';
  const cpu = bed.daemon.cpu();
  const before = bed.daemon.memory().rss;
  let rss = before;
  for (let n = 0; n < times; n++) {
    const done = new AbortController();
    const beating = longestWait(streams, done.signal);
    const began = performance.now();
    await act().catch((thrown: unknown) => {
      failure = thrown instanceof Error ? thrown.message.slice(0, 200) : String(thrown);
    });
    took.push(performance.now() - began);
    rss = Math.max(rss, bed.daemon.memory().rss);
    done.abort();
    stood.push(await beating);
  }
  return {
    ms: Math.max(...took),
    heartbeatsWaitedMs: Math.max(...stood),
    cpuMs: ((bed.daemon.cpu() - cpu) * 1000) / times,
    rssGrewMb: rss - before,
    ...(failure === '' ? {} : { failure }),
  };
}

/** Pings one after the other while something else is done: the slowest says for how long nobody was served. */
async function longestWait(streams: readonly SupernodeStream[], signal: AbortSignal): Promise<number> {
  let longest = 0;
  for (let n = 0; !signal.aborted; n++) {
    const began = performance.now();
    await streams[n % streams.length]?.ping();
    longest = Math.max(longest, performance.now() - began);
    await pause(2);
  }
  return longest;
}

/** As docs/runbook.md says: `sqlite3 vpnd.db ".backup file"`, by the same function of SQLite. */
async function backup(bed: Bed): Promise<void> {
  const db = new Database(join(bed.daemon.dir, STORE_FILE), { readonly: true, timeout: 30_000 });
  try {
    // All pages in one step, as the command does.
    await db.backup(join(bed.daemon.dir, 'backup.db'), { progress: () => Number.MAX_SAFE_INTEGER });
  } finally {
    db.close();
  }
}
