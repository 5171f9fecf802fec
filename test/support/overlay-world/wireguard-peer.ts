import type { Clock } from '../../../src/core/ports/clock.js';
import type { Random } from '../../../src/core/ports/random.js';
import { type Endpoint, sameEndpoint } from '../../../src/model/address.js';
import type { PeerUnit } from '../../../src/model/dataplane.js';
import type { WireGuardPublicKey } from '../../../src/model/keys.js';
import { type Instant, instantOf, type Millis, ms, seconds } from '../../../src/model/time.js';
import { type Datagram, INNER_BYTES, type Inner, type WireGuardMessage } from './packets.js';

/** The WireGuard paper's, section 6.1. */
const REKEY_AFTER = 120_000;
const REJECT_AFTER = 180_000;
const REKEY_TIMEOUT = seconds(5);
/** Retries are spread a little (Linux: a third of a second). */
const JITTER = 333;
const KEEPALIVE_TIMEOUT = seconds(10);
const MOST_ATTEMPTS = 18;
/** Packets that wait for a handshake. */
const QUEUE = 64;
const HANDSHAKE_BYTES = 148;
const DATA_OVERHEAD = 32;

interface Keys {
  readonly id: number;
  readonly born: number;
  readonly initiator: boolean;
}

export interface PeerDeps {
  readonly clock: Clock;
  readonly random: Random;
  /** Numbers that nobody else has. */
  readonly fresh: () => number;
  readonly send: (to: Endpoint, message: WireGuardMessage) => void;
  readonly deliver: (peer: WireGuardPeer, inner: Inner) => void;
  readonly changed: (peer: WireGuardPeer) => void;
}

type TimerName = 'retry' | 'keepalive' | 'answer' | 'silence';

/** One peer of a WireGuard device as its kernel has it: keys, endpoint, timers (WireGuard paper, section 6). */
export class WireGuardPeer {
  endpoint: Endpoint | undefined;
  lastHandshake: Instant | undefined;
  rxBytes = 0;
  txBytes = 0;
  #current: Keys | undefined;
  #previous: Keys | undefined;
  /** Made by answering, and not used by the other side yet. */
  #next: Keys | undefined;
  #attempt: { readonly id: number; readonly at: number } | undefined;
  #attempts = 0;
  readonly #queue: Inner[] = [];
  readonly #timers = new Map<TimerName, () => void>();

  constructor(
    private readonly own: WireGuardPublicKey,
    public unit: PeerUnit,
    private readonly deps: PeerDeps,
  ) {
    this.endpoint = unit.endpoint;
    if (unit.keepalive > 0) this.#keepAlive();
  }

  /** The unit was put again: only what differs is written, as dataplane/ does it. */
  put(unit: PeerUnit): void {
    const before = this.unit;
    this.unit = unit;
    const moved =
      unit.endpoint !== undefined &&
      !sameEndpoint(unit.endpoint, before.endpoint) &&
      !sameEndpoint(unit.endpoint, this.endpoint);
    if (moved) {
      this.endpoint = unit.endpoint;
      this.deps.changed(this);
    }
    if (unit.keepalive === 0) this.#stop('keepalive');
    else if (moved || before.keepalive === 0) this.#keepAlive();
  }

  end(): void {
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
    this.#queue.length = 0;
  }

  send(inner: Inner | undefined): void {
    const keys = this.#current;
    if (keys === undefined || this.#age(keys) >= REJECT_AFTER) {
      if (inner !== undefined && this.#queue.length < QUEUE) this.#queue.push(inner);
      this.#initiate(false);
      return;
    }
    this.#transmit({ kind: 'data', keys: keys.id, inner }, DATA_OVERHEAD + (inner === undefined ? 0 : INNER_BYTES));
    if (inner !== undefined && !this.#timers.has('silence'))
      this.#after('silence', ms(KEEPALIVE_TIMEOUT + REKEY_TIMEOUT), () => this.#initiate(false));
    this.#stop('answer');
    if (keys.initiator && this.#age(keys) >= REKEY_AFTER) this.#initiate(false);
  }

  initiated(message: Extract<WireGuardMessage, { kind: 'initiation' }>, from: Endpoint): void {
    // The pre-shared key comes in with the second message (Noise IKpsk2): who answers does not see that it is another.
    this.#heard(from, HANDSHAKE_BYTES);
    this.#next = { id: this.deps.fresh(), born: this.deps.clock.monotonic(), initiator: false };
    const { attempt } = message;
    const { presharedKey } = this.unit;
    this.#transmit(
      { kind: 'response', attempt, keys: this.#next.id, from: this.own, to: this.unit.publicKey, presharedKey },
      HANDSHAKE_BYTES,
    );
  }

  responded(message: Extract<WireGuardMessage, { kind: 'response' }>, from: Endpoint): void {
    if (message.attempt !== this.#attempt?.id || message.presharedKey !== this.unit.presharedKey) return;
    this.#attempt = undefined;
    this.#heard(from, HANDSHAKE_BYTES);
    this.#use({ id: message.keys, born: this.deps.clock.monotonic(), initiator: true });
    // The other side may use the keys only once it has heard something with them.
    if (this.#queue.length === 0) this.send(undefined);
    this.#flush();
  }

  /** False for keys that this peer does not have. */
  received(message: Extract<WireGuardMessage, { kind: 'data' }>, from: Endpoint): boolean {
    const keys = [this.#current, this.#previous, this.#next].find((one) => one?.id === message.keys);
    if (keys === undefined) return false;
    if (this.#age(keys) >= REJECT_AFTER) return true;
    if (keys === this.#next) {
      this.#next = undefined;
      this.#use(keys);
    }
    const { inner } = message;
    this.#heard(from, DATA_OVERHEAD + (inner === undefined ? 0 : INNER_BYTES));
    this.#flush();
    if (keys.initiator && this.#age(keys) >= REJECT_AFTER - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT) this.#initiate(false);
    if (inner === undefined) return true;
    if (!this.#timers.has('answer')) this.#after('answer', KEEPALIVE_TIMEOUT, () => this.send(undefined));
    this.deps.deliver(this, inner);
    return true;
  }

  #use(keys: Keys): void {
    this.#previous = this.#current;
    this.#current = keys;
    this.#attempts = 0;
    this.#stop('retry');
    this.lastHandshake = instantOf(Math.floor(this.deps.clock.now()));
    this.deps.changed(this);
  }

  #initiate(again: boolean): void {
    const now = this.deps.clock.monotonic();
    if (this.endpoint === undefined) return;
    if (!again) {
      if (this.#attempt !== undefined && now - this.#attempt.at < REKEY_TIMEOUT) return;
      this.#attempts = 0;
    }
    this.#attempt = { id: this.deps.fresh(), at: now };
    this.#attempts++;
    const { publicKey } = this.unit;
    this.#transmit({ kind: 'initiation', attempt: this.#attempt.id, from: this.own, to: publicKey }, HANDSHAKE_BYTES);
    this.#after('retry', ms(REKEY_TIMEOUT + this.deps.random.fraction() * JITTER), () => {
      if (this.#attempts <= MOST_ATTEMPTS) this.#initiate(true);
      else this.#queue.length = 0;
    });
  }

  #flush(): void {
    for (const inner of this.#queue.splice(0)) this.send(inner);
  }

  #heard(from: Endpoint, bytes: number): void {
    this.endpoint = from;
    this.rxBytes += bytes;
    this.#stop('silence');
    this.#traversed();
    this.deps.changed(this);
  }

  #transmit(message: WireGuardMessage, bytes: number): void {
    if (this.endpoint === undefined) return;
    this.txBytes += bytes;
    this.#traversed();
    this.deps.changed(this);
    this.deps.send(this.endpoint, message);
  }

  /** Any packet, either way, puts the next keepalive off. */
  #traversed(): void {
    if (this.unit.keepalive > 0) this.#after('keepalive', seconds(this.unit.keepalive), () => this.#keepAlive());
  }

  #keepAlive(): void {
    this.#after('keepalive', seconds(this.unit.keepalive), () => this.#keepAlive());
    this.send(undefined);
  }

  #age(keys: Keys): number {
    return this.deps.clock.monotonic() - keys.born;
  }

  #after(name: TimerName, delay: Millis, task: () => void): void {
    this.#stop(name);
    this.#timers.set(
      name,
      this.deps.clock.after(delay, () => {
        this.#timers.delete(name);
        task();
      }),
    );
  }

  #stop(name: TimerName): void {
    this.#timers.get(name)?.();
    this.#timers.delete(name);
  }
}

export const isWireGuard = (payload: Datagram['payload']): payload is WireGuardMessage => payload.kind !== 'bytes';
