import type { Clock } from '../../../src/core/ports/clock.js';
import type { IpAddress } from '../../../src/model/address.js';
import type { Millis } from '../../../src/model/time.js';
import type { Machine } from './machine.js';
import type { Inner } from './packets.js';

/** What did not come back for so long is lost. */
const LOST_AFTER = 1_000;
export const SOMEWHERE = '9.9.9.9' as IpAddress;

export interface TrafficDeps {
  readonly clock: Clock;
  readonly fresh: () => number;
  /** Tells what to do with the answer to a packet of this number. */
  readonly expect: (id: number, answered: () => void) => void;
  /** A packet leaves outside any tunnel. */
  readonly beside: () => void;
}

interface Sent {
  readonly at: number;
  answeredAt: number | undefined;
}

/**
 * A program on a machine that asks the internet something, again and again, and counts what comes back: each time anew,
 * from whatever address the routes give, or over one connection, which keeps the address that it began with.
 */
export class Traffic {
  readonly #sent: Sent[] = [];
  readonly #answers: number[] = [];
  readonly #source: IpAddress | undefined;
  /** Resets of this machine that were before it. */
  readonly #oldResets: number;
  #cancel: () => void = () => {};
  /** It was told at once that its connection is gone. */
  wasReset = false;
  /** Packets that no tunnel took: kept back, not sent. */
  held = 0;

  constructor(
    private readonly machine: Machine,
    private readonly every: Millis,
    private readonly deps: TrafficDeps,
    kind: 'packets' | 'connection',
  ) {
    this.#source = kind === 'connection' ? machine.host.source() : undefined;
    this.#oldResets = machine.kernel.resets().length;
    if (this.#source !== undefined) machine.connect(this.#source, 1);
    this.#tick();
  }

  get sent(): number {
    return this.#sent.length;
  }

  get answered(): number {
    return this.#answers.length;
  }

  /** What has been under way for longer than an answer takes. */
  get lost(): number {
    return this.lostAt().length;
  }

  /** When it was sent, as the clock counts. */
  lostAt(): readonly number[] {
    const since = this.deps.clock.monotonic() - LOST_AFTER;
    return this.#sent.flatMap(({ answeredAt, at }) => (answeredAt === undefined && at <= since ? [at] : []));
  }

  /** Milliseconds without any answer, at the longest, since `after` (as the clock counts). */
  longestGap(after = this.#answers[0] ?? 0): number {
    const times = [after, ...this.#answers.filter((at) => at >= after), this.deps.clock.monotonic()];
    return Math.max(...times.slice(1).map((at, i) => at - (times[i] as number)));
  }

  /** How long after `at` the first question was asked that got an answer; undefined when there was none yet. */
  resumedAfter(at: number): number | undefined {
    const first = this.#sent.find((one) => one.at >= at && one.answeredAt !== undefined);
    return first?.answeredAt === undefined ? undefined : first.answeredAt - at;
  }

  stop(): void {
    this.#cancel();
    this.#cancel = () => {};
    if (this.#source !== undefined && !this.wasReset) this.machine.connect(this.#source, -1);
  }

  #tick(): void {
    this.#cancel = this.deps.clock.after(this.every, () => this.#tick());
    if (this.#source !== undefined && this.machine.kernel.resets().slice(this.#oldResets).includes(this.#source))
      this.#reset();
    if (this.machine.awake && !this.wasReset) this.#send();
  }

  #reset(): void {
    this.stop();
    this.wasReset = true;
  }

  #send(): void {
    const { clock, fresh, expect, beside } = this.deps;
    const { host, ip } = this.machine;
    const inner: Inner = {
      kind: 'ping',
      id: fresh(),
      source: this.#source ?? host.source() ?? ip,
      destination: SOMEWHERE,
    };
    const one: Sent = { at: clock.monotonic(), answeredAt: undefined };
    expect(inner.id, () => {
      one.answeredAt = clock.monotonic();
      this.#answers.push(one.answeredAt);
    });
    this.#sent.push(one);
    const { by } = host.send(inner);
    if (by === 'nobody') this.held++;
    if (by === 'uplink') beside();
    // Only a connection ends by it; the next question of others takes the way there is then.
    if (by === 'reset' && this.#source !== undefined) this.#reset();
  }
}

/** Questions that wait for their answers, of all machines. */
export class Questions {
  readonly #waiting = new Map<number, () => void>();
  #next = 1;

  readonly fresh = (): number => this.#next++;

  expect(id: number, answered: () => void): void {
    this.#waiting.set(id, answered);
  }

  answered({ id }: Inner): void {
    const known = this.#waiting.get(id);
    this.#waiting.delete(id);
    known?.();
  }
}
