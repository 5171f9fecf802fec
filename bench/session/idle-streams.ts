import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createLab, type Lab, type Spawned } from '../../chaos/lab/index.js';
import { OverlayNode } from '../../chaos/overlay/index.js';
import { openSodium } from '../../src/identity/sodium.js';
import type { Region } from '../../src/model/role.js';
import { instantOf } from '../../src/model/time.js';
import { cpuTime, type MemoryUse, memoryUse } from '../lib/process-cost.js';
import type { Result, Row } from '../lib/report.js';
import { type Member, type OverlayKeys, signMembers } from '../load/members.js';
import type { Joined, Left, Load } from '../load/streams.js';

export interface IdleStreamsSummary {
  readonly perStreamKb: { readonly rssSettled: number; readonly rss: number; readonly pss: number };
  readonly joinsPerSecond: number;
  readonly cpuMsPerJoin: number;
  readonly heartbeats: {
    readonly cpuMsPerSecond: number;
    readonly cpuMsPerSecondWithoutStreams: number;
    /** A ping, whichever side sent it, and its answer. */
    readonly cpuUsPerPing: number;
  };
  readonly lost: number;
}

const GENERATOR = fileURLToPath(new URL('../load/streams.js', import.meta.url));
const BASE = '198.51.100.5';
const SUPERNODE = '198.51.100.1';
const REGION = 'eu' as Region;
/** So many come and go first: code is then loaded and compiled, and buffers that are made once are made. */
const WARM_UP = 100;
const SETTLE_MS = 10_000;
const PER_ADDRESS = 10;
const AT_ONCE = 32;
const MEMORY_LIMIT_KB = 85;

/**
 * What a supernode spends on clients that are connected and do nothing: memory for each, CPU for their heartbeats. The
 * supernode is the real daemon without a data plane, alone in its process; the clients share another one.
 */
export async function benchIdleStreams(
  command: string,
  options: { readonly streams: number; readonly idleSeconds: number },
): Promise<Result<IdleStreamsSummary>> {
  const lab = await createLab({ name: 'bench' });
  try {
    const supernode = await startSupernode(lab);
    const { crypto } = await openSodium();
    const { keys, members } = signMembers(
      supernode.baseDir,
      supernode.node.stateDir,
      { count: WARM_UP + options.streams, region: REGION, now: instantOf(Date.now()) },
      crypto,
    );
    return await measure(supernode.node, keys, members, command, options.idleSeconds);
  } finally {
    await lab.close();
  }
}

async function measure(
  node: OverlayNode,
  keys: OverlayKeys,
  members: readonly Member[],
  command: string,
  idleSeconds: number,
): Promise<Result<IdleStreamsSummary>> {
  const { pid } = node.process;
  const started = memoryUse(pid);
  const warm = await join(node, keys, members.slice(0, WARM_UP), 1);
  await leave(warm.generator);
  await pause(SETTLE_MS);
  const before = memoryUse(pid);
  const cpuIdle = await cpuOver(pid, SETTLE_MS / 1000);

  const joiners = members.slice(WARM_UP);
  const cpuBefore = cpuTime(pid).own;
  const { generator, joined } = await join(node, keys, joiners, 50);
  const cpuToJoin = cpuTime(pid).own - cpuBefore;
  await pause(SETTLE_MS);
  const settled = memoryUse(pid);
  const cpuBusy = await cpuOver(pid, idleSeconds);
  const after = memoryUse(pid);
  const left = await leave(generator);
  await pause(SETTLE_MS);
  const gone = memoryUse(pid);

  const streams = joiners.length;
  const perStream = (use: MemoryUse, what: keyof MemoryUse) => (use[what] - before[what]) / 1024 / streams;
  const kb = (use: MemoryUse) => ({ rssKb: use.rss / 1024, pssKb: use.pss / 1024 });
  const beats = (streams * 2 * idleSeconds) / 10;
  return {
    name: 'idle-streams',
    command,
    configuration: {
      streams,
      warmUp: `${WARM_UP} streams that came and went before the first look`,
      settledForMs: SETTLE_MS,
      idleSeconds,
      sourceAddresses: Math.ceil(streams / PER_ADDRESS),
      setUpAtOnce: AT_ONCE,
      supernode: 'vpnd supernode --dataplane memory, no garbage collection asked for',
      stream: 'TLS 1.3 on a TCP connection of its own, authenticated client, ping every 10 s from either side',
    },
    summary: {
      perStreamKb: {
        rssSettled: perStream(settled, 'rss'),
        rss: perStream(after, 'rss'),
        pss: perStream(after, 'pss'),
      },
      joinsPerSecond: streams / joined.seconds,
      cpuMsPerJoin: (cpuToJoin * 1000) / streams,
      heartbeats: {
        cpuMsPerSecond: cpuBusy,
        cpuMsPerSecondWithoutStreams: cpuIdle,
        cpuUsPerPing: ((cpuBusy - cpuIdle) * idleSeconds * 1000) / beats,
      },
      lost: left.lost,
    },
    targets: [
      {
        what: `resident memory per idle stream, ${streams} of them`,
        limit: MEMORY_LIMIT_KB,
        measured: perStream(after, 'rss'),
        unit: 'KB',
      },
    ],
    samples: {
      memory: {
        started: kb(started),
        before: kb(before),
        settled: kb(settled),
        after: kb(after),
        afterTheyLeft: kb(gone),
      },
      joined,
      left,
    },
  };
}

/** The supernode has enrolled with a base of its own, which stays up. */
async function startSupernode(lab: Lab): Promise<{ readonly node: OverlayNode; readonly baseDir: string }> {
  const [baseHost, host] = await Promise.all([
    lab.publicHost('base', { ipv4: BASE }),
    lab.publicHost('sna', { ipv4: SUPERNODE }),
  ]);
  const base = new OverlayNode('base', baseHost, 'base', ['--listen', '0.0.0.0:7400', '--advertise', `${BASE}:7400`]);
  await base.start();
  const { token } = await base.json<{ token: string }>('token', 'create', '--role', 'supernode', '--region', REGION);
  const node = new OverlayNode('supernode', host, 'supernode', [
    ...['--region', REGION, '--listen', '0.0.0.0:443', '--advertise', `${SUPERNODE}:443`, '--relay-ip', SUPERNODE],
    ...['--dataplane', 'memory'],
  ]);
  await node.start({ token });
  return { node, baseDir: base.stateDir };
}

async function join(
  { host }: OverlayNode,
  keys: OverlayKeys,
  members: readonly Member[],
  firstAddress: number,
): Promise<{ readonly generator: Spawned; readonly joined: Joined }> {
  const addresses = Math.ceil(members.length / PER_ADDRESS);
  const load: Load = {
    host: '127.0.0.1',
    port: 443,
    region: REGION,
    keys,
    members,
    from: Array.from({ length: addresses }, (_, i) => `127.0.1.${firstAddress + i}`),
    atOnce: AT_ONCE,
  };
  const generator = host.spawn([process.execPath, GENERATOR], { stdin: JSON.stringify(load) });
  return { generator, joined: JSON.parse(await said(generator, 'joined')) as Joined };
}

async function leave(generator: Spawned): Promise<Left> {
  generator.kill('SIGTERM');
  return JSON.parse(await said(generator, 'left')) as Left;
}

async function said(generator: Spawned, what: string): Promise<string> {
  return (await generator.waitForLine(new RegExp(`^${what} (.*)$`), 120_000))[1] ?? '{}';
}

/** Milliseconds of CPU per second, over so many seconds. */
async function cpuOver(pid: number, seconds: number): Promise<number> {
  const before = cpuTime(pid).own;
  await pause(seconds * 1000);
  return ((cpuTime(pid).own - before) * 1000) / seconds;
}

export const idleRows = (one: IdleStreamsSummary): readonly Row[] => [
  ['resident memory per stream, KB', one.perStreamKb.rss],
  ['the same, shared pages divided (PSS), KB', one.perStreamKb.pss],
  ['the same, right after they had settled, KB', one.perStreamKb.rssSettled],
  ['streams set up per second', one.joinsPerSecond],
  ['CPU to set one up, ms', one.cpuMsPerJoin],
  ['CPU for all heartbeats, ms/s', one.heartbeats.cpuMsPerSecond],
  ['the same without a stream, ms/s', one.heartbeats.cpuMsPerSecondWithoutStreams],
  ['CPU per ping, us', one.heartbeats.cpuUsPerPing],
  ['streams lost', one.lost],
];
