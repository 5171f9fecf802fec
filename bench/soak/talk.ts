import { makeAuthRequest } from '../../src/core/auth.js';
import type { Crypto, Identity } from '../../src/core/ports/crypto.js';
import type { Random } from '../../src/core/ports/random.js';
import type { Bytes } from '../../src/model/bytes.js';
import type { PeerId, SessionId } from '../../src/model/ids.js';
import type { ControlMessage } from '../../src/model/messages.js';
import type { SessionGrant } from '../../src/model/session.js';
import { instantOf } from '../../src/model/time.js';
import { type Member, selfOf } from '../load/members.js';
import type { RawStream } from '../load/raw-stream.js';

const STREAM_LIMIT_MS = 20_000;
const GRANT_LIMIT_MS = 40_000;
const CLOSE_LIMIT_MS = 40_000;

export interface TalkTools {
  readonly crypto: Pick<Crypto, 'wireGuardKeyPair'>;
  readonly random: Random;
  readonly kemKey: Bytes;
  readonly region: string;
}

export interface Visitor {
  readonly member: Member;
  readonly identity: Identity;
}

/** One client's side of a control stream. */
export class Talk {
  readonly ended: Promise<never>;
  readonly #heard = new Map<string, (message: ControlMessage) => void>();
  readonly #raw: RawStream;
  readonly #tools: TalkTools;
  #requests = 0;
  #fail: (cause: unknown) => void = () => {};

  constructor(raw: RawStream, tools: TalkTools) {
    this.#raw = raw;
    this.#tools = tools;
    this.ended = new Promise((_, reject) => {
      this.#fail = reject;
    });
    // Whoever waits hears of it; between two waits nobody does.
    this.ended.catch(() => undefined);
    raw.stream.listen({
      message: (message) => this.#message(message),
      ended: (end) => this.#fail(end.error ?? new Error('the supernode ended the stream')),
    });
  }

  async enter({ member, identity }: Visitor, id: PeerId): Promise<void> {
    const server = { id, challenge: this.#raw.challenge, serverKeyHash: this.#raw.serverKeyHash };
    const self = selfOf(member, this.#tools.region, 'vpnd-soak');
    this.#raw.stream.send(makeAuthRequest(identity, self, server, instantOf(Date.now()), this.#tools.random));
    await this.#next('auth-response', STREAM_LIMIT_MS);
  }

  async ask(isPrivate: boolean): Promise<SessionGrant> {
    const request = {
      requestId: ++this.#requests,
      region: undefined,
      country: undefined,
      pool: undefined,
      exit: undefined,
      minMbps: undefined,
      maxLatency: undefined,
      privacy: isPrivate ? 'private' : 'auto',
      sessionKey: this.#tools.crypto.wireGuardKeyPair().publicKey,
      kemKey: this.#tools.kemKey,
      standby: false,
      avoidExits: [],
      avoidSupernodes: [],
    } as const;
    this.#raw.stream.send({ kind: 'exit-request', request });
    const answer = await this.#next('exit-response', GRANT_LIMIT_MS);
    if (answer.kind !== 'exit-response') throw new Error('no answer');
    if (!answer.result.ok)
      throw Object.assign(new Error(answer.result.error.message), { code: answer.result.error.code });
    return answer.result.value;
  }

  async close(session: SessionId): Promise<void> {
    this.#raw.stream.send({ kind: 'event', news: { kind: 'session-closed', session, reason: 'the visit is over' } });
    await this.#next(`disconnect/${session}`, CLOSE_LIMIT_MS);
  }

  #next(what: string, limitMs: number): Promise<ControlMessage> {
    let timer: NodeJS.Timeout | undefined;
    const heard = new Promise<ControlMessage>((resolve, reject) => {
      this.#heard.set(what, resolve);
      timer = setTimeout(() => reject(new Error(`no ${what.replace(/\/.*/, '')} in time`)), limitMs);
    });
    return Promise.race([heard, this.ended]).finally(() => {
      clearTimeout(timer);
      this.#heard.delete(what);
    });
  }

  #message(message: ControlMessage): void {
    const { stream } = this.#raw;
    if (message.kind === 'ping') {
      stream.send({ kind: 'pong', id: message.id });
    } else if (message.kind === 'command') {
      const { id, session, desired } = message.command;
      stream.send({ kind: 'command-response', id, result: { ok: true, value: { offer: undefined } } });
      if (desired.kind === 'disconnect') this.#heard.get(`disconnect/${session}`)?.(message);
    } else {
      this.#heard.get(message.kind)?.(message);
    }
  }
}
