/**
 * `make nat-table`: tries every kind of NAT before the client with every kind before the exit, with the real daemons,
 * and prints the table of docs/nat.md. Keeps what it saw in bench/results/nat-table.json.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { NatKind } from '../chaos/lab/index.js';
import { activeSession, Fleet, type OverlayNode } from '../chaos/overlay/index.js';
import { Path, Privacy } from '../src/gen/vpnd/v1/types_pb.js';
import { describeMachine } from './lib/machine.js';
import { keep, table } from './lib/report.js';

const CLIENTS: readonly NatKind[] = ['none', 'port-preserving', 'random', 'carrier-grade', 'udp-blocked'];
/** `forwarded`: as port-preserving, with a UDP port forwarded to the exit, which says so. */
const EXITS = ['none', 'forwarded', 'port-preserving', 'random', 'carrier-grade', 'udp-blocked'] as const;
type ExitKind = (typeof EXITS)[number];

interface Tried {
  readonly client: NatKind;
  readonly exit: ExitKind;
  /** What the session began with, and where it settled; empty where none came about. */
  readonly first: string;
  readonly settled: string;
  readonly upMs: number;
  /** Until it was direct; undefined when it did not become so. */
  readonly directAfterMs: number | undefined;
  /** The web server saw the exit's address. */
  readonly carries: boolean;
  readonly trouble: string;
}

/** An upgrade that works is through within a second; one that does not is given up within another. */
const SETTLE_MS = 6000;
const REQUEST_LIMIT_MS = 60_000;
const PORT = 51820;

const machine = await describeMachine();
const fleet = await Fleet.start({
  lab: { name: 'nat' },
  supernodes: [
    { name: 'a', region: 'eu' },
    { name: 'b', region: 'us' },
  ],
  exits: EXITS.map((kind) => ({
    name: `x-${kind}`,
    region: 'us',
    nat: kind === 'forwarded' ? 'port-preserving' : kind,
    ...(kind === 'forwarded' ? { forwardedPort: PORT } : {}),
  })),
  clients: CLIENTS.map((kind) => ({ name: `c-${kind}`, region: 'eu', nat: kind, args: ['--standby', 'off'] })),
});
try {
  const tried: Tried[] = [];
  // Clients side by side: each pair is its own session, and waiting is most of it.
  await Promise.all(
    CLIENTS.map(async (client) => {
      for (const exit of EXITS) {
        const one = await attempt(client, exit);
        tried.push(one);
        console.log(
          `  ${client} - ${exit}: ${one.trouble || `${one.first}, then ${one.settled}`}${one.carries ? '' : ', NO TRAFFIC'}`,
        );
      }
    }),
  );
  const cell = (client: NatKind, exit: ExitKind): string => {
    const one = tried.find((each) => each.client === client && each.exit === exit);
    return one === undefined || !one.carries ? 'none' : one.settled;
  };
  console.log(
    `\n${table(
      ['client \\ exit', ...EXITS],
      CLIENTS.map((client) => [client, ...EXITS.map((exit) => cell(client, exit))]),
    )}`,
  );
  const file = keep(
    {
      name: 'nat-table',
      command: 'make nat-table',
      configuration: { supernodes: 2, privacy: 'auto', settleMs: SETTLE_MS },
      summary: Object.fromEntries(
        CLIENTS.map((client) => [client, Object.fromEntries(EXITS.map((exit) => [exit, cell(client, exit)]))]),
      ),
      targets: [],
      samples: { tried },
    },
    machine,
  );
  console.log(`  ${file}`);
} finally {
  await fleet.close();
}

async function attempt(client: NatKind, exit: ExitKind): Promise<Tried> {
  const node = fleet.node(`c-${client}`);
  const exitNode = fleet.node(`x-${exit}`);
  const began = performance.now();
  try {
    const { peerId } = await exitNode.api.status();
    await node.api.up({ exit: peerId, privacy: Privacy.AUTO }, AbortSignal.timeout(REQUEST_LIMIT_MS));
    const upMs = performance.now() - began;
    const first = await pathOf(node);
    let directAfterMs: number | undefined;
    while (performance.now() - began < upMs + SETTLE_MS) {
      if ((await pathOf(node)) === 'direct') directAfterMs ??= performance.now() - began;
      await pause(50);
    }
    const settled = await pathOf(node);
    const seen = await fleet.seenIp(node.host);
    const own = fleet.home(`x-${exit}`).nat === 'none' ? exitNode.host.ipv4 : fleet.home(`x-${exit}`).publicIpv4;
    return { client, exit, first, settled, upMs, directAfterMs, carries: seen === own, trouble: '' };
  } catch (thrown) {
    const trouble = thrown instanceof Error ? thrown.message : String(thrown);
    return {
      client,
      exit,
      first: '',
      settled: '',
      upMs: performance.now() - began,
      directAfterMs: undefined,
      carries: false,
      trouble,
    };
  } finally {
    await node.api.down().catch(() => undefined);
  }
}

/** As a person says it: `stream` where the datagrams go inside the stream to the supernode. */
async function pathOf(node: OverlayNode): Promise<string> {
  const status = await node.api.status();
  const session = activeSession(status);
  if (session === undefined) return '';
  return status.problems.some((one) => /inside the stream/.test(one)) ? 'stream' : Path[session.path].toLowerCase();
}
