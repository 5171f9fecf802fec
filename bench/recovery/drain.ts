import { setTimeout as pause } from 'node:timers/promises';
import type { NatKind } from '../../chaos/lab/index.js';
import { Fleet, type OverlayNode, PacketTrain, type PeerSpec, Pings } from '../../chaos/overlay/index.js';
import { Privacy } from '../../src/gen/vpnd/v1/types_pb.js';
import { noneLost, noSessionLost, type OwnEvent, type Sample } from './event.js';

/** Clients that are daemons of the real binary, each on a machine of its own with its own tunnel. */
const CLIENTS = 50;
const PER_HOME = 10;
/** Watched with a hundred packets a second; the others with ten. */
const WATCHED = 2;
const UP_AT_ONCE = 2;
const REQUEST_LIMIT_MS = 60_000;
const DRAIN_LIMIT_MS = 90_000;

/**
 * Fifty sessions, all granted by one supernode, which is then drained while packets flow in every one of them.
 * Afterwards it ends, and whoever is left goes to the other one: the next run drains that.
 */
const drainedWith = (name: string, title: string, crowd: Crowd): OwnEvent => ({
  name,
  title,
  limits: [noneLost, noSessionLost],
  async all(runs, tell) {
    const fleet = await assemble(crowd, tell);
    try {
      const samples: Sample[] = [];
      let [from, to] = [fleet.node('a'), fleet.node('d')];
      for (let run = 0; run < runs; run++) {
        samples.push(await drain(fleet, from, tell));
        await from.stop();
        await from.start();
        [from, to] = [to, from];
      }
      return samples;
    } finally {
      await fleet.close();
    }
  },
});

interface Crowd {
  readonly privacy: Privacy;
  /** What their homes are behind, one after the other. */
  readonly nats: readonly NatKind[];
}

/** Over two relays each. */
export const drained = drainedWith('supernode-drained', `supernode drained with ${CLIENTS} sessions`, {
  privacy: Privacy.PRIVATE,
  nats: ['port-preserving'],
});

/** Each new session tries to go direct, every other one in vain. */
export const drainedAuto = drainedWith('drained-auto', `the same, going direct where they can: half of them`, {
  privacy: Privacy.AUTO,
  nats: ['port-preserving', 'random'],
});

async function assemble({ privacy, nats }: Crowd, tell: (text: string) => void): Promise<Fleet> {
  const clients = Array.from({ length: CLIENTS }, (_, i): PeerSpec => {
    const first = i - (i % PER_HOME);
    const nat = nats[(first / PER_HOME) % nats.length] ?? 'port-preserving';
    return { name: `c${i}`, region: 'eu', ...(i === first ? { nat } : { with: `c${first}` }) };
  });
  const fleet = await Fleet.build({
    lab: { name: 'drain' },
    supernodes: [
      { name: 'a', region: 'eu' },
      { name: 'd', region: 'eu' },
      { name: 'b', region: 'us' },
    ],
    exits: [
      { name: 'x1', region: 'us' },
      { name: 'x2', region: 'us' },
    ],
    clients,
    // Fifty tunnels, not a hundred: two cores carry all of it.
    clientArgs: ['--standby', 'off'],
  });
  try {
    await fleet.base.start();
    // The second supernode of the region comes when everybody is with the first.
    for (const name of ['a', 'b', 'x1', 'x2']) await fleet.join(name);
    const waiting = clients.map(({ name }) => name);
    const worker = async () => {
      for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
        await fleet.join(name);
        await fleet.node(name).api.up({ region: 'us', privacy }, AbortSignal.timeout(REQUEST_LIMIT_MS));
      }
    };
    await Promise.all(Array.from({ length: UP_AT_ONCE }, worker));
    await fleet.join('d');
    tell(`${CLIENTS} clients are connected`);
    return fleet;
  } catch (cause) {
    await fleet.close();
    throw cause;
  }
}

async function drain(fleet: Fleet, from: OverlayNode, tell: (text: string) => void): Promise<Sample> {
  const [watched, others] = [fleet.clients.slice(0, WATCHED), fleet.clients.slice(WATCHED)];
  const trains = await Promise.all(watched.map(({ host }) => PacketTrain.start(host, fleet.web)));
  const pings = await Promise.all(others.map(({ host }) => Pings.start(host, fleet.web, { everySeconds: 0.1 })));
  await pause(2000);
  const sessions = (await from.api.status()).sessions.length;
  const began = performance.now();
  let last = 'nothing was said';
  let done = false;
  for await (const progress of from.api.drain(
    { timeoutMs: BigInt(DRAIN_LIMIT_MS) },
    AbortSignal.timeout(DRAIN_LIMIT_MS + 10_000),
  )) {
    last = `${progress.sessions} sessions, ${progress.streams} streams left`;
    done = progress.done && !progress.timedOut;
  }
  const tookMs = performance.now() - began;
  await pause(3000);
  const records = await Promise.all(trains.map((train) => train.stop()));
  const counted = await Promise.all(pings.map((ping) => ping.stop()));
  const alive = await Promise.all(fleet.clients.map((client) => carries(fleet, client)));
  tell(`drained of ${sessions} sessions in ${Math.round(tookMs)} ms: ${last}${done ? '' : ', and the time was over'}`);
  for (const [what, count] of await problemsOf(fleet)) tell(`${count} times: ${what}`);
  const sum = (values: readonly number[]) => values.reduce((all, one) => all + one, 0);
  return {
    recoveredMs: 0,
    sent: sum([...records, ...counted].map(({ sent }) => sent)),
    lost: sum([...records, ...counted].map(({ lost }) => lost)),
    gapMs: Math.max(...records.map((record) => record.longestGap())),
    instrumentPauseMs: Math.max(...records.map((record) => record.longestPause())),
    quietGapMs: 0,
    seen: 1,
    sessions,
    sessionsLost: alive.filter((one) => !one).length,
    tookMs,
  };
}

/** What the clients' histories complain of, with how often. */
async function problemsOf(fleet: Fleet): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  for (const client of fleet.clients) {
    for (const { code, text } of await client.api.events(0)) {
      if (code === 'problem' || code === 'exit-silent' || code === 'failed-over' || code === 'waiting') {
        const line = `${code} ${text.replace(/[a-z2-7]{10}/g, '…')}`;
        counts.set(line, (counts.get(line) ?? 0) + 1);
      }
    }
  }
  return counts;
}

/** The session is there, over another supernode, and a page comes through it from the exit's address. */
async function carries(fleet: Fleet, client: OverlayNode): Promise<boolean> {
  const { sessions } = await client.api.status();
  if (!sessions.some(({ state, use }) => state === 'up' && use !== 'retiring')) return false;
  const exits = new Set(['x1', 'x2'].map((name) => fleet.home(name).publicIpv4));
  return exits.has(await fleet.seenIp(client.host).catch(() => ''));
}
