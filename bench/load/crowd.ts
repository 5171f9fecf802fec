import { createHash } from 'node:crypto';
import { newSessionId } from '../../src/core/commands.js';
import type { Clock } from '../../src/core/ports/clock.js';
import type { Random } from '../../src/core/ports/random.js';
import type { SodiumCrypto } from '../../src/identity/sodium.js';
import { statements } from '../../src/identity/statements.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import type { Command, CommandDone } from '../../src/model/command.js';
import { VpndError } from '../../src/model/errors.js';
import type { SessionId } from '../../src/model/ids.js';
import type { ControlMessage } from '../../src/model/messages.js';
import type { SessionGrant } from '../../src/model/session.js';
import { hours, ms, plus } from '../../src/model/time.js';
import { TimerWheel } from '../../src/transport/streams/timer-wheel.js';
import { CrowdMember, type CrowdTools } from './crowd-member.js';
import { bytesOf, type Member, type OverlayKeys, selfOf } from './members.js';
import { openRawStream, trusting } from './raw-stream.js';

/** What a load generator is given. */
export interface Load {
  readonly host: string;
  readonly port: number;
  readonly region: string;
  readonly keys: OverlayKeys;
  readonly members: readonly Member[];
  /** Addresses to connect from, in turn: a supernode limits how often one address may come. */
  readonly from: readonly string[];
  /** Streams that are set up at the same time. */
  readonly atOnce: number;
}

export interface Joined {
  readonly streams: number;
  readonly seconds: number;
}

/** One kind of news that came: how many, and when the first and the last of them since the last question. */
interface Heard {
  readonly count: number;
  readonly first: number;
  readonly last: number;
}

/** Times are milliseconds of the machine's monotonic clock, the same for all processes. */
export interface Counts {
  readonly up: number;
  /** Streams that ended although nobody here wanted it. */
  readonly lost: number;
  readonly pings: number;
  /** When the last stream came up. */
  readonly lastUp: number;
  /** Attempts that failed, by what they were told. */
  readonly failures: Readonly<Record<string, number>>;
  readonly news: Readonly<Record<string, Heard>>;
}

export interface Asked {
  readonly latenciesMs: readonly number[];
  readonly seconds: number;
  readonly failed: number;
  /** What the last failure was. */
  readonly failure?: string;
}

const GRANULE = ms(50);
const ANSWER_LIMIT_MS = 30_000;
const SOFTWARE = 'vpnd-bench';

/** Of CLOCK_MONOTONIC, which all processes of a machine share. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

interface Waiting<T> {
  resolve(value: T): void;
  reject(error: Error): void;
}

/** Many members in one process, each with an identity, a membership, a TLS connection and heartbeats of its own. */
export class Crowd {
  readonly #load: Load;
  readonly #random: Random;
  readonly #clock: Clock;
  readonly #crypto: SodiumCrypto;
  readonly #members: CrowdMember[] = [];
  readonly #joining = new Map<CrowdMember, () => void>();
  readonly #leaving = new Set<CrowdMember>();
  readonly #commands = new Map<SessionId, Waiting<void>>();
  readonly #grants = new Map<number, Waiting<SessionGrant>>();
  readonly #failures: Record<string, number> = {};
  #news: Record<string, Heard> = {};
  #up = 0;
  #lost = 0;
  #pings = 0;
  #lastUp = 0;
  #requests = 0;

  constructor(load: Load, crypto: SodiumCrypto, random: Random, clock: Clock) {
    this.#load = load;
    this.#random = random;
    this.#clock = clock;
    this.#crypto = crypto;
    const tools = this.#tools();
    for (const [i, member] of load.members.entries()) {
      const identity = crypto.identityFromSeed(bytesOf(member.seed));
      const key = member.role === 'exit' ? crypto.wireGuardKeyPair().publicKey : undefined;
      const self = selfOf(member, load.region, SOFTWARE, key);
      const from = load.from[i % load.from.length] ?? load.host;
      this.#members.push(new CrowdMember(identity, self, from, tools));
    }
  }

  /** Starts those members and resolves once all of them are up. */
  async join(first: number, count: number): Promise<Joined> {
    const began = monotonicMs();
    const waiting = this.#some(first, count);
    const streams = waiting.length;
    const next = async () => {
      for (let member = waiting.shift(); member !== undefined; member = waiting.shift()) await this.#started(member);
    };
    await Promise.all(Array.from({ length: this.#load.atOnce }, next));
    return { streams, seconds: (monotonicMs() - began) / 1000 };
  }

  /** Ends their streams. */
  leave(first: number, count: number): void {
    for (const member of this.#some(first, count)) {
      this.#leaving.add(member);
      member.stop();
      this.#leaving.delete(member);
    }
  }

  /**
   * Has the supernode send that many commands: a client says that a session ended which the supernode does not know, and
   * is told by DISCONNECT, a real command that it acknowledges. The time is from the news to the command.
   *
   * @param every milliseconds between two; with 0, `atOnce` are always under way
   */
  async ask(first: number, count: number, times: number, every: number, atOnce: number): Promise<Asked> {
    const clients = this.#clients(first, count);
    return this.#repeat(times, every, atOnce, (n) => this.#command(pick(clients, n)));
  }

  /** Sets that many sessions up, and down again, for its clients among these members, at whatever exits there are. */
  async sessions(first: number, count: number, times: number, atOnce: number): Promise<Asked> {
    const clients = this.#clients(first, count);
    return this.#repeat(times, 0, atOnce, async (n) => {
      const client = pick(clients, n);
      const began = monotonicMs();
      const grant = await this.#session(client);
      const took = monotonicMs() - began;
      await this.#command(client, grant.session);
      return took;
    });
  }

  /** News are counted anew after each look. */
  counts(): Counts {
    const news = this.#news;
    this.#news = {};
    return { up: this.#up, lost: this.#lost, pings: this.#pings, lastUp: this.#lastUp, failures: this.#failures, news };
  }

  #some(first: number, count: number): CrowdMember[] {
    return this.#members.slice(first, first + count);
  }

  #clients(first: number, count: number): CrowdMember[] {
    return this.#some(first, count).filter((_, i) => this.#load.members[first + i]?.role === 'client');
  }

  async #repeat(times: number, every: number, atOnce: number, once: (n: number) => Promise<number>): Promise<Asked> {
    const began = monotonicMs();
    const latenciesMs: number[] = [];
    let failed = 0;
    let failure: string | undefined;
    const one = async (n: number): Promise<void> => {
      try {
        latenciesMs.push(await once(n));
      } catch (thrown) {
        failed++;
        failure = String(thrown);
      }
    };
    let started = 0;
    if (every > 0) {
      const under: Promise<void>[] = [];
      while (started < times) {
        const due = began + started * every;
        await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - monotonicMs())));
        under.push(one(started++));
      }
      await Promise.all(under);
    } else {
      const worker = async () => {
        while (started < times) await one(started++);
      };
      await Promise.all(Array.from({ length: atOnce }, worker));
    }
    return { latenciesMs, seconds: (monotonicMs() - began) / 1000, failed, ...(failure && { failure }) };
  }

  /** Milliseconds until the DISCONNECT for that session, one that nobody knows unless given, has come. */
  async #command(member: CrowdMember, session = newSessionId(this.#random)): Promise<number> {
    const began = monotonicMs();
    await answered<void>((waiting) => {
      this.#commands.set(session, waiting);
      const news = { kind: 'session-closed', session, reason: 'of a benchmark' } as const;
      if (!member.send({ kind: 'event', news })) waiting.reject(new Error('the stream is down'));
    }).finally(() => this.#commands.delete(session));
    return monotonicMs() - began;
  }

  async #session(member: CrowdMember): Promise<SessionGrant> {
    const requestId = ++this.#requests;
    const request = {
      requestId,
      region: undefined,
      country: undefined,
      pool: undefined,
      exit: undefined,
      minMbps: undefined,
      maxLatency: undefined,
      privacy: 'auto',
      sessionKey: this.#crypto.wireGuardKeyPair().publicKey,
      kemKey: new Uint8Array(0),
      standby: false,
      avoidExits: [],
      avoidSupernodes: [],
    } as const;
    return answered<SessionGrant>((waiting) => {
      this.#grants.set(requestId, waiting);
      if (!member.send({ kind: 'exit-request', request })) waiting.reject(new Error('the stream is down'));
    }).finally(() => this.#grants.delete(requestId));
  }

  #started(member: CrowdMember): Promise<void> {
    return new Promise((resolve) => {
      this.#joining.set(member, resolve);
      member.start();
    });
  }

  #tools(): CrowdTools {
    const { host, port, keys } = this.#load;
    const trust = trusting(keys.ca);
    const signer = statements(this.#crypto);
    return {
      clock: this.#clock,
      random: this.#random,
      wheel: new TimerWheel(this.#clock, GRANULE, (thrown) => console.error(thrown)),
      target: { address: { host, port: port as Port }, expect: { kind: 'supernode', id: keys.supernode }, ca: keys.ca },
      server: keys.supernode,
      open: (from, signal) => openRawStream({ host, port: port as Port, trust, from: from as IpAddress, signal }),
      command: (member, command) => this.#commanded(member, command, signer),
      message: (_member, message) => this.#heard(message),
      up: (member) => {
        this.#up++;
        this.#lastUp = monotonicMs();
        this.#joining.get(member)?.();
        this.#joining.delete(member);
      },
      down: (member, wasUp, error) => {
        if (wasUp) this.#up--;
        if (this.#leaving.has(member)) return;
        if (wasUp) this.#lost++;
        const what = `${wasUp ? 'stream' : 'attempt'}: ${error.code}: ${error.message.slice(0, 80)}`;
        this.#failures[what] = (this.#failures[what] ?? 0) + 1;
      },
      beat: () => {
        this.#pings++;
      },
    };
  }

  #commanded(member: CrowdMember, { session, desired }: Command, signer: ReturnType<typeof statements>): CommandDone {
    this.#commands.get(session)?.resolve();
    if (desired.kind !== 'setup-exit') return { offer: undefined };
    const { exitKey } = member;
    if (exitKey === undefined) throw new VpndError('wrong-role', 'this member is no exit');
    const offer = {
      session,
      clientKey: desired.clientKey,
      exitKey,
      inner: desired.inner,
      kemCiphertext: new Uint8Array(0),
      kemKeyHash: desired.kemKey.length === 0 ? desired.kemKey : createHash('sha256').update(desired.kemKey).digest(),
      expires: plus(this.#clock.now(), hours(1)),
      ipv6: false,
    };
    return { offer: signer.signOffer(member.identity, offer) };
  }

  #heard(message: ControlMessage): void {
    if (message.kind === 'exit-response') {
      const waiting = this.#grants.get(message.requestId);
      if (message.result.ok) waiting?.resolve(message.result.value);
      else waiting?.reject(new Error(message.result.error.message));
    } else if (message.kind === 'event') {
      const now = monotonicMs();
      const { kind } = message.news;
      const { count, first } = this.#news[kind] ?? { count: 0, first: now };
      this.#news[kind] = { count: count + 1, first, last: now };
    }
  }
}

/** What `ask` is answered, or a rejection after half a minute. */
function answered<T>(ask: (waiting: Waiting<T>) => void): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const limit = setTimeout(() => reject(new Error('no answer')), ANSWER_LIMIT_MS);
    ask({
      resolve: (value) => {
        clearTimeout(limit);
        resolve(value);
      },
      reject: (error) => {
        clearTimeout(limit);
        reject(error);
      },
    });
  });
}

/** One after another, far apart: what was used a moment ago is not used again soon. */
function pick(members: readonly CrowdMember[], n: number): CrowdMember {
  const STRIDE = 7919;
  const member = members[(n * STRIDE) % members.length];
  if (member === undefined) throw new Error('no member to ask');
  return member;
}
