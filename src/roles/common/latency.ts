import { type Clock, sleep } from '../../core/ports/clock.js';
import type { Datagrams } from '../../core/ports/datagrams.js';
import type { Log } from '../../core/ports/log.js';
import type { Random } from '../../core/ports/random.js';
import type { Reach } from '../../core/ports/reach.js';
import { parseProbeResponse, probeRequest } from '../../core/probe.js';
import { parseIp } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import type { SupernodeInfo } from '../../model/directory.js';
import type { PeerId } from '../../model/ids.js';
import { type Millis, minutes, ms, seconds } from '../../model/time.js';
import { type Measured, nearby } from './latency-rank.js';

const MEASURE_EVERY: Millis = minutes(10);
/** So that what started together (after a power cut, a release) does not measure together for ever. */
const JITTER = 0.2;
/** Between two supernodes' turns at most; nobody waits for the last. */
const SPREAD: Millis = ms(250);
/** Beyond this a supernode counts as out of reach. */
const TIMEOUT: Millis = seconds(1.5);
/** The smaller of two is taken: the first packet pays for ARP, for a NAT's new entry, for a sleeping radio. */
const SAMPLES = 2;

export interface LatencyDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** UDP to a supernode's reflector; without it, or without a reflector, TCP connection times are taken. */
  readonly datagrams: Datagrams | undefined;
  readonly reach: Reach | undefined;
  /** Candidates, as published. */
  readonly supernodes: () => readonly SupernodeInfo[];
  readonly region: string;
  /** Supernodes that are measured in any case. */
  readonly held: () => readonly PeerId[];
  readonly changed: () => void;
}

/** Round trips to the supernodes around this node: measured at start, after a change of network, and now and then. */
export class Latencies {
  readonly #results = new Map<PeerId, Measured>();
  #cancel: () => void = () => {};
  #round: AbortController | undefined;

  constructor(private readonly deps: LatencyDeps) {}

  start(): void {
    if (!this.canMeasure) return;
    this.#round?.abort(new Error('measured anew'));
    const round = new AbortController();
    this.#round = round;
    void this.#measureAll(round.signal).catch((err: unknown) => {
      if (!round.signal.aborted) this.deps.log.error('measuring round trips failed', { err });
    });
    this.#cancel();
    const jitter = 1 + JITTER * (2 * this.deps.random.fraction() - 1);
    this.#cancel = this.deps.clock.after(ms(MEASURE_EVERY * jitter), () => this.start());
  }

  /** The network is another one: what was measured says nothing any more. */
  forget(): void {
    this.#results.clear();
    this.start();
  }

  stop(): void {
    this.#cancel();
    this.#round?.abort(new Error('this node is stopping'));
    this.#round = undefined;
  }

  get canMeasure(): boolean {
    return this.deps.datagrams !== undefined || this.deps.reach !== undefined;
  }

  of(id: PeerId): Measured {
    return this.#results.get(id);
  }

  /** Now; `none` when it does not answer. */
  async measure(supernode: SupernodeInfo, signal?: AbortSignal): Promise<Millis | 'none'> {
    let best: Millis | 'none' = 'none';
    for (let n = 0; n < SAMPLES && !signal?.aborted; n++) {
      const took = (await this.#udp(supernode)) ?? (await this.#tcp(supernode));
      if (took === undefined) break;
      best = best === 'none' ? took : ms(Math.min(best, took));
    }
    if (!signal?.aborted) this.#results.set(supernode.id, best);
    return best;
  }

  async #measureAll(signal: AbortSignal): Promise<void> {
    const { clock, random, supernodes, region, held } = this.deps;
    const chosen = nearby(supernodes(), region, held());
    const known = new Set(supernodes().map((one) => one.id));
    for (const id of this.#results.keys()) if (!known.has(id)) this.#results.delete(id);
    await Promise.all(
      chosen.map(async (one, i) => {
        await sleep(clock, ms(i * SPREAD * random.fraction()), signal);
        await this.measure(one, signal);
      }),
    );
    if (!signal.aborted) this.deps.changed();
  }

  async #udp({ relayIps, probePort: port }: SupernodeInfo): Promise<Millis | undefined> {
    const { datagrams, random, clock } = this.deps;
    if (datagrams === undefined || port === undefined) return undefined;
    return fastest(
      relayIps.map(async (ip) => {
        const nonce = random.bytes(16);
        const began = clock.monotonic();
        const isOurs = (answer: Bytes) => parseProbeResponse(answer, nonce) !== undefined;
        const answer = await datagrams.ask({ ip, port }, probeRequest(nonce), isOurs, TIMEOUT);
        return answer && ms(clock.monotonic() - began);
      }),
    );
  }

  async #tcp({ addresses, relayIps }: SupernodeInfo): Promise<Millis | undefined> {
    const { reach } = this.deps;
    if (reach === undefined) return undefined;
    // One dialled by name is reached on its relay addresses, which are the same machine's.
    const endpoints = addresses.flatMap(({ host, port }) => {
      const literal = parseIp(host);
      return literal.ok ? [{ ip: literal.value, port }] : relayIps.map((ip) => ({ ip, port }));
    });
    return fastest(endpoints.slice(0, 2).map((to) => reach.tcp(to, { timeout: TIMEOUT })));
  }
}

/** The first that is there; undefined once none can be any more. */
function fastest(asked: readonly Promise<Millis | undefined>[]): Promise<Millis | undefined> {
  const orThrow = asked.map(async (one) => {
    const took = await one;
    if (took === undefined) throw new Error('no answer');
    return took;
  });
  return Promise.any(orThrow).catch(() => undefined);
}
