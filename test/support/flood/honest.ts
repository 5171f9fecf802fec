import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { bytesOf, type Member, type OverlayKeys, selfOf } from '../../../bench/load/members.js';
import { openRawStream, trusting } from '../../../bench/load/raw-stream.js';
import { makeAuthRequest } from '../../../src/core/auth.js';
import { openSodium } from '../../../src/identity/sodium.js';
import type { IpAddress, Port } from '../../../src/model/address.js';
import type { SessionId } from '../../../src/model/ids.js';
import type { WireGuardPublicKey } from '../../../src/model/keys.js';
import type { ControlMessage } from '../../../src/model/messages.js';
import { instantOf } from '../../../src/model/time.js';

export interface Honest {
  readonly port: number;
  readonly region: string;
  readonly keys: OverlayKeys;
  readonly members: readonly Member[];
  /** Streams that are held all the time. */
  readonly held: number;
}

/** How long anything an honest peer asks for may take: what a stream has to authenticate in, and a third of a heartbeat’s silence. */
const PATIENCE_MS = 10_000;
/** Of each thing that honest peers do. */
const EVERY_MS = 400;

const { crypto, random } = await openSodium();

interface Held {
  send(message: ControlMessage): void;
  /** The answer that `wanted` picks; rejects when the stream ends or patience does. */
  answer<T>(wanted: (message: ControlMessage) => T | undefined): Promise<T>;
  end(): void;
}

/** Clients that hold streams, come anew, and ask for exits, while somebody else makes trouble. */
export class HonestPeers {
  readonly failures: string[] = [];
  /** Answers so far, and the slowest since the last look, in milliseconds. */
  readonly answered = { pings: 0, newcomers: 0, sessions: 0 };
  readonly #with: Honest;
  #slowest = 0;
  #members: readonly Member[];
  #over = false;
  #loops: Promise<void>[] = [];
  #pings = 0;

  private constructor(options: Honest) {
    this.#with = options;
    this.#members = options.members;
  }

  static async start(options: Honest): Promise<HonestPeers> {
    const peers = new HonestPeers(options);
    const streams = await Promise.all(Array.from({ length: options.held }, () => peers.#join()));
    const [asking] = streams;
    if (asking === undefined) throw new Error('nobody holds a stream');
    peers.#loops = [
      ...streams.map((stream, i) => peers.#again('pings', () => peers.#ping(stream), (i * EVERY_MS) / streams.length)),
      peers.#again('newcomers', async () => (await peers.#join()).end()),
      peers.#again('sessions', () => peers.#session(asking)),
    ];
    return peers;
  }

  /** The slowest answer since the last look. */
  slowest(): number {
    const slowest = Math.round(this.#slowest);
    this.#slowest = 0;
    return slowest;
  }

  async stop(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#loops);
  }

  async #again(what: keyof HonestPeers['answered'], once: () => Promise<void>, first = 0): Promise<void> {
    await pause(first);
    while (!this.#over) {
      const started = performance.now();
      try {
        await once();
        this.answered[what]++;
      } catch (error) {
        this.failures.push(`${what}: ${(error as Error).message}`);
      }
      this.#slowest = Math.max(this.#slowest, performance.now() - started);
      await pause(EVERY_MS);
    }
  }

  async #ping(stream: Held): Promise<void> {
    const id = ++this.#pings;
    stream.send({ kind: 'ping', id, load: undefined });
    await stream.answer((message) => (message.kind === 'pong' && message.id === id ? true : undefined));
  }

  /** Asks for an exit, which the supernode orders to set the session up, and gives it back. */
  async #session(stream: Held): Promise<void> {
    const requestId = ++this.#pings;
    const none = undefined;
    const wish = { region: none, country: none, pool: none, exit: none, minMbps: none, maxLatency: none } as const;
    stream.send({
      kind: 'exit-request',
      request: {
        ...wish,
        privacy: 'auto',
        requestId,
        sessionKey: randomBytes(32).toString('base64') as unknown as WireGuardPublicKey,
        kemKey: new Uint8Array(0),
        standby: false,
        avoidExits: [],
        avoidSupernodes: [],
      },
    });
    const result = await stream.answer((message) =>
      message.kind === 'exit-response' && message.requestId === requestId ? message.result : undefined,
    );
    if (!result.ok) throw new Error(`no exit: ${result.error.message}`);
    const session: SessionId = result.value.session;
    stream.send({ kind: 'event', news: { kind: 'session-closed', session, reason: 'had enough' } });
  }

  async #join(): Promise<Held> {
    const [member, ...rest] = this.#members;
    if (member === undefined) throw new Error('no members left');
    this.#members = rest;
    const { port, keys, region } = this.#with;
    const { stream, challenge, serverKeyHash } = await patient(
      'a connection',
      openRawStream({
        host: '127.0.0.1',
        port: port as Port,
        trust: trusting(keys.ca),
        from: `127.0.3.${1 + (rest.length % 50)}` as IpAddress,
      }),
    );
    const waiting = new Set<{ take(message: ControlMessage): boolean; fail(error: Error): void }>();
    let ended: Error | undefined;
    const held: Held = {
      send: (message) => void stream.send(message),
      answer: (wanted) => {
        let one: { take(message: ControlMessage): boolean; fail(error: Error): void } | undefined;
        return patient(
          'an answer',
          new Promise<NonNullable<ReturnType<typeof wanted>>>((resolve, reject) => {
            if (ended !== undefined) return reject(ended);
            one = {
              take: (message) => {
                const found = wanted(message);
                if (found !== undefined && found !== null) resolve(found);
                return found !== undefined;
              },
              fail: reject,
            };
            waiting.add(one);
          }),
        ).finally(() => one && waiting.delete(one));
      },
      end: () => stream.end(),
    };
    stream.listen({
      message: (message) => {
        if (message.kind === 'ping') stream.send({ kind: 'pong', id: message.id });
        for (const one of waiting) one.take(message);
      },
      ended: (end) => {
        ended = end.error ?? new Error('the supernode ended the stream');
        for (const one of waiting) one.fail(ended);
      },
    });
    const identity = crypto.identityFromSeed(bytesOf(member.seed));
    const self = selfOf(member, region, 'honest');
    const server = { id: keys.supernode, challenge, serverKeyHash };
    held.send(makeAuthRequest(identity, self, server, instantOf(Date.now()), random));
    await held.answer((message) => (message.kind === 'auth-response' ? true : undefined));
    return held;
  }
}

/** Rejects when it takes longer than an honest peer waits. */
function patient<T>(what: string, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${what} took more than ${PATIENCE_MS} ms`)), PATIENCE_MS);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
