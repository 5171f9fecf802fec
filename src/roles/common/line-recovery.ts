import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { NetworkState, NetworkWatch } from '../../core/ports/network-watch.js';
import { type Millis, seconds } from '../../model/time.js';
import type { PeerLine } from './line.js';

/** Timers of one wake that run late one after the other. */
const SAME_WAKE: Millis = seconds(5);

export interface RecoveryDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined where nobody watches. */
  readonly networkWatch: NetworkWatch | undefined;
  readonly lines: readonly PeerLine[];
  /** Both after the lines have been seen to. */
  readonly networkChanged: (state: NetworkState) => void;
  readonly woke: () => void;
}

/** Brings a node's lines back as soon as its machine has a network again, without waiting for silence or backoff. */
export class Recovery {
  #fingerprint: string | undefined;
  #lost = false;
  #unlisten: () => void = () => {};
  #lastWake: Millis | undefined;

  constructor(private readonly deps: RecoveryDeps) {}

  start(): void {
    const { networkWatch } = this.deps;
    if (networkWatch === undefined) return;
    const state = networkWatch.current();
    this.#fingerprint = state.connected ? state.fingerprint : undefined;
    this.#lost = !state.connected;
    this.#unlisten = networkWatch.listen((next) => this.#changed(next));
  }

  stop(): void {
    this.#unlisten();
  }

  /** This line's timer ran so late that the machine must have been stopped; the line dials anew already. */
  woke(line: PeerLine): void {
    const now = this.deps.clock.monotonic();
    if (this.#lastWake !== undefined && now - this.#lastWake < SAME_WAKE) return;
    this.#lastWake = now;
    this.deps.log.info('this machine, or this process, was stopped for a while');
    // The others would notice by themselves, but what is told on their dead streams until then would be lost.
    for (const other of this.#running()) if (other !== line) other.upstream.wake();
    this.deps.woke();
  }

  #changed(state: NetworkState): void {
    const { log } = this.deps;
    if (!state.connected) {
      this.#lost = true;
      // Streams over a network without a default route may live on; dials go on with their backoff, and cost little.
      log.info('this machine has lost its network');
    } else if (this.#lost || state.fingerprint !== this.#fingerprint) {
      log.info(
        state.fingerprint === this.#fingerprint
          ? 'the network is back: connecting anew'
          : 'this machine is on another network: connecting anew',
      );
      this.#fingerprint = state.fingerprint;
      this.#lost = false;
      // What lives on of a pulled cable's connections cannot be told from what died without waiting, and what is told
      // on a dead stream is lost.
      for (const line of this.#running()) line.upstream.redial();
    } else return;
    this.deps.networkChanged(state);
  }

  #running(): readonly PeerLine[] {
    return this.deps.lines.filter((line) => line.running);
  }
}
