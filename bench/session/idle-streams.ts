import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createLab, type Lab, type Spawned } from '../../chaos/lab/index.js';
import { OverlayNode } from '../../chaos/overlay/index.js';
import { openSodium } from '../../src/identity/sodium.js';
import type { Region } from '../../src/model/role.js';
import { instantOf } from '../../src/model/time.js';
import { cpuTime, type MemoryUse, memoryUse } from '../lib/process-cost.js';
import type { Result, Row } from '../lib/report.js';
import type { Joined, Load } from '../load/crowd.js';
import { type Member, type OverlayKeys, signMembers } from '../load/members.js';
import type { Left } from '../load/streams.js';

interface Spent {
  readonly way: string;
  readonly perStreamKb: { readonly rssSettled: number; readonly rss: number; readonly pss: number };
  readonly totalMb: { readonly before: number; readonly after: number };
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

export interface IdleStreamsSummary {
  readonly supernodes: readonly Spent[];
}

const GENERATOR = fileURLToPath(new URL('../load/streams.js', import.meta.url));
const BASE = '198.51.100.5';
const REGION = 'eu' as Region;
/** So many come and go first: code is then loaded and compiled, and buffers that are made once are made. */
const WARM_UP = 100;
const SETTLE_MS = 10_000;
const PER_ADDRESS = 10;
const AT_ONCE = 32;
const PING_SECONDS = 10;
const MEMORY_LIMIT_KB = 85;

/** How the supernode is started. Side by side, so that the machine treats both alike; the second one some seconds later. */
const WAYS = [
  {
    way: 'as deploy/systemd starts it',
    host: 'sna',
    ip: '198.51.100.1',
    env: { NODE_OPTIONS: '--max-semi-space-size=2' },
  },
  { way: 'Node’s own settings', host: 'snb', ip: '198.51.100.2', env: {} },
] as const;
const APART_MS = 6_000;

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
    const base = await startBase(lab);
    const measured = await Promise.all(
      WAYS.map(async (way, i) => {
        await pause(i * APART_MS);
        const node = await startSupernode(lab, base, way);
        return { way: way.way, ...(await measure(base, node, options)) };
      }),
    );
    return {
      name: 'idle-streams',
      command,
      configuration: {
        streams: options.streams,
        warmUp: `${WARM_UP} streams that came and went before the first look`,
        settledForMs: SETTLE_MS,
        idleSeconds: options.idleSeconds,
        sourceAddresses: Math.ceil(options.streams / PER_ADDRESS),
        setUpAtOnce: AT_ONCE,
        supernode: 'vpnd supernode --dataplane memory, no garbage collection asked for',
        ways: WAYS,
        stream: 'TLS 1.3 on a TCP connection of its own, authenticated client, ping every 10 s from either side',
      },
      summary: { supernodes: measured.map(({ way, spent }) => ({ way, ...spent })) },
      targets: measured.map(({ way, spent }) => ({
        what: `resident memory per idle stream, ${options.streams} of them, ${way}`,
        limit: MEMORY_LIMIT_KB,
        measured: spent.perStreamKb.rss,
        unit: 'KB',
      })),
      samples: Object.fromEntries(measured.map(({ way, samples }) => [way, samples])),
    };
  } finally {
    await lab.close();
  }
}

async function measure(
  base: OverlayNode,
  node: OverlayNode,
  options: { readonly streams: number; readonly idleSeconds: number },
): Promise<{ readonly spent: Omit<Spent, 'way'>; readonly samples: object }> {
  const { streams, idleSeconds } = options;
  const { crypto } = await openSodium();
  const wanted = { count: WARM_UP + streams, region: REGION, now: instantOf(Date.now()) };
  const { keys, members } = signMembers(base.stateDir, node.stateDir, wanted, crypto);
  const { pid } = node.process;
  const started = memoryUse(pid);
  const warm = await join(node, keys, members.slice(0, WARM_UP), 1);
  await leave(warm.generator);
  await pause(SETTLE_MS);
  const before = memoryUse(pid);
  const cpuIdle = await cpuOver(pid, SETTLE_MS / 1000);

  const cpuBefore = cpuTime(pid).own;
  const { generator, joined } = await join(node, keys, members.slice(WARM_UP), 50);
  const cpuToJoin = cpuTime(pid).own - cpuBefore;
  await pause(SETTLE_MS);
  const settled = memoryUse(pid);
  const cpuBusy = await cpuOver(pid, idleSeconds);
  const after = memoryUse(pid);
  const left = await leave(generator);
  await pause(SETTLE_MS);
  const gone = memoryUse(pid);

  const perStream = (use: MemoryUse, what: keyof MemoryUse) => (use[what] - before[what]) / 1024 / streams;
  const kb = (use: MemoryUse) => ({ rssKb: use.rss / 1024, pssKb: use.pss / 1024 });
  const beats = (streams * 2 * idleSeconds) / PING_SECONDS;
  return {
    spent: {
      perStreamKb: {
        rssSettled: perStream(settled, 'rss'),
        rss: perStream(after, 'rss'),
        pss: perStream(after, 'pss'),
      },
      totalMb: { before: before.rss / 2 ** 20, after: after.rss / 2 ** 20 },
      joinsPerSecond: streams / joined.seconds,
      cpuMsPerJoin: (cpuToJoin * 1000) / streams,
      heartbeats: {
        cpuMsPerSecond: cpuBusy,
        cpuMsPerSecondWithoutStreams: cpuIdle,
        cpuUsPerPing: ((cpuBusy - cpuIdle) * idleSeconds * 1000) / beats,
      },
      lost: left.lost,
    },
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

async function startBase(lab: Lab): Promise<OverlayNode> {
  const host = await lab.publicHost('base', { ipv4: BASE });
  const base = new OverlayNode('base', host, 'base', ['--listen', '0.0.0.0:7400', '--advertise', `${BASE}:7400`]);
  await base.start();
  return base;
}

async function startSupernode(lab: Lab, base: OverlayNode, way: (typeof WAYS)[number]): Promise<OverlayNode> {
  const host = await lab.publicHost(way.host, { ipv4: way.ip });
  const { token } = await base.json<{ token: string }>('token', 'create', '--role', 'supernode', '--region', REGION);
  const node = new OverlayNode(way.host, host, 'supernode', [
    ...['--region', REGION, '--listen', '0.0.0.0:443', '--advertise', `${way.ip}:443`, '--relay-ip', way.ip],
    ...['--dataplane', 'memory'],
  ]);
  await node.start({ token, env: way.env });
  return node;
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

export const idleRows = ({ supernodes }: IdleStreamsSummary): readonly Row[] => {
  const row = (what: string, value: (one: Spent) => number): Row => [what, ...supernodes.map(value)];
  return [
    row('resident memory per stream, KB', (one) => one.perStreamKb.rss),
    row('the same, shared pages divided (PSS), KB', (one) => one.perStreamKb.pss),
    row('the same, right after they had settled, KB', (one) => one.perStreamKb.rssSettled),
    row('resident memory of the process before, MB', (one) => one.totalMb.before),
    row('the same with all streams, MB', (one) => one.totalMb.after),
    row('streams set up per second', (one) => one.joinsPerSecond),
    row('CPU to set one up, ms', (one) => one.cpuMsPerJoin),
    row('CPU for all heartbeats, ms/s', (one) => one.heartbeats.cpuMsPerSecond),
    row('the same without a stream, ms/s', (one) => one.heartbeats.cpuMsPerSecondWithoutStreams),
    row('CPU per ping, us', (one) => one.heartbeats.cpuUsPerPing),
    row('streams lost', (one) => one.lost),
  ];
};

/** For the head of a table. */
export const idleHead = ({ supernodes }: IdleStreamsSummary): readonly string[] => [
  '',
  ...supernodes.map((one) => one.way),
];
