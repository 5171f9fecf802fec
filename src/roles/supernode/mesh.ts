import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { DialTarget, Network, TlsIdentity } from '../../core/ports/network.js';
import type { FactStore } from '../../core/ports/store.js';
import { formatHostPort } from '../../model/address.js';
import type { ExitCandidate, SupernodeInfo } from '../../model/directory.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import { type PeerId, shortId } from '../../model/ids.js';
import type { RequestExitPeerRequest, RequestExitRegionResponse, UnaryCalls, UnaryName } from '../../model/messages.js';
import type { Region } from '../../model/role.js';
import { type Instant, type Millis, ms, seconds, since } from '../../model/time.js';

/** How long base's answer about a region is taken as fresh. While base is down an older one is used. */
const REGION_FRESH: Millis = seconds(15);
/** At most so many supernodes are asked for candidates at once. */
const ASK_AT_MOST = 8;
const ASK_TIMEOUT: Millis = ms(1500);
/** One that said nothing is not asked for its exits again so soon. */
const SILENT_FOR: Millis = seconds(10);
/** Once one has answered, the others get this long: nobody waits for a dead one. */
const GRACE: Millis = ms(250);
const CALL_TIMEOUT: Millis = seconds(25);
/** How long base is not asked again that did not answer: each try holds up a client. */
const BASE_REST: Millis = seconds(15);
/** How long one that said itself that it drains is taken at its word; base's directory may be old. */
const DRAINING_FOR: Millis = seconds(60);
/** Other supernodes named to a peer that cannot be served here. */
const NEXT_AT_MOST = 5;
const DIRECTORY_FACT = 'directory';

export interface MeshDeps {
  readonly self: PeerId;
  readonly clock: Clock;
  readonly network: Network;
  readonly facts: FactStore;
  readonly log: Log;
  readonly ca: () => string;
  readonly identity: () => TlsIdentity;
  readonly baseTargets: () => readonly DialTarget[];
  /** Why a supernode is not dealt with: it was banned. */
  readonly refusal: (id: PeerId) => VpndError | undefined;
}

/** The other supernodes: who they are (from base, kept on disk), how far away, and the calls to them. */
export class Mesh {
  #supernodes: readonly SupernodeInfo[];
  readonly #latency = new Map<PeerId, Millis>();
  readonly #regions = new Map<string, { readonly at: Instant; readonly answer: RequestExitRegionResponse }>();
  /** Those that answered `draining`, and when. */
  readonly #refused = new Map<PeerId, Instant>();
  /** Supernodes that did not answer lately: whoever asks again after a failure is not made to wait for them again. */
  readonly #silent = new Map<PeerId, Millis>();
  #baseSilentAt: Instant | undefined;

  constructor(private readonly deps: MeshDeps) {
    // Who drained when this was written may long be back.
    const kept = deps.facts.get<readonly SupernodeInfo[]>(DIRECTORY_FACT) ?? [];
    this.#supernodes = kept.map((one) => ({ ...one, draining: false }));
  }

  get supernodes(): readonly SupernodeInfo[] {
    return this.#supernodes;
  }

  learn(supernodes: readonly SupernodeInfo[]): void {
    this.#supernodes = supernodes;
    this.#regions.clear();
    this.#baseSilentAt = undefined;
    try {
      this.deps.facts.put(DIRECTORY_FACT, supernodes);
    } catch (thrown) {
      this.deps.log.warn('the directory cannot be kept on disk', { err: thrown });
    }
  }

  info(id: PeerId): SupernodeInfo | undefined {
    return this.#supernodes.find((one) => one.id === id);
  }

  /** The other supernodes that peers may be sent to, best first. */
  usable(): readonly SupernodeInfo[] {
    return this.#supernodes.filter((one) => one.id !== this.deps.self && !this.#drains(one) && !this.#banned(one));
  }

  /** Where a peer that this supernode does not take should try, for the details of a refusal. */
  next(): Record<string, string> {
    const addresses = this.usable().flatMap(({ addresses: [address] }) => address ?? []);
    return addresses.length === 0 ? {} : { next: addresses.slice(0, NEXT_AT_MOST).map(formatHostPort).join(',') };
  }

  /** Round trip of the latest calls to a supernode, smoothed. */
  latencyTo(id: PeerId): Millis | undefined {
    return this.#latency.get(id);
  }

  /** Regions that have a supernode, as far as this node knows. */
  regions(): readonly Region[] {
    return [...new Set(this.#supernodes.filter((one) => !this.#banned(one)).map((one) => one.region))].sort();
  }

  /** Exits of other supernodes that fit, from as many as answer in time. Never rejects. */
  async candidates(request: RequestExitPeerRequest): Promise<readonly ExitCandidate[]> {
    // An exit asked for by name may be under any supernode, whatever the region.
    const serving = await this.#serving(request.exit === undefined ? request.region : undefined);
    const staying = serving.filter((one) => !this.#drains(one));
    const found = await this.#ask(staying, request);
    if (request.region !== undefined && !found.some((exit) => exit.region === request.region)) {
      // Exits whose own supernode is away are with another region's.
      const elsewhere = this.usable().filter((one) => !staying.some(({ id }) => id === one.id));
      found.push(...(await this.#ask(elsewhere, request)));
    }
    if (found.length > 0) return found;
    // What base said of them may be old: one that still drains says so itself.
    const leaving = serving.filter((one) => this.#drains(one) && !this.#saidSo(one.id));
    return this.#ask(leaving, request);
  }

  /** Whether any other supernode answers and takes sessions: one that drains refuses. */
  async anyServing(): Promise<boolean> {
    const nothing = { region: undefined, country: undefined, pool: undefined, exit: undefined };
    const question = { ...nothing, minMbps: undefined, maxLatency: undefined, limit: 1 };
    const asked = this.usable()
      .slice(0, ASK_AT_MOST)
      .map((one) => this.call(one.id, 'requestExitPeer', question, ASK_TIMEOUT));
    return Promise.any(asked).then(
      () => true,
      () => false,
    );
  }

  #banned({ id }: SupernodeInfo): boolean {
    return this.deps.refusal(id) !== undefined;
  }

  #drains({ id, draining }: SupernodeInfo): boolean {
    return draining || this.#saidSo(id);
  }

  #saidSo(id: PeerId): boolean {
    const at = this.#refused.get(id);
    return at !== undefined && since(this.deps.clock.now(), at) < DRAINING_FOR;
  }

  async #ask(serving: readonly SupernodeInfo[], request: RequestExitPeerRequest): Promise<ExitCandidate[]> {
    const now = this.deps.clock.monotonic();
    const isSilent = ({ id }: SupernodeInfo) => now - (this.#silent.get(id) ?? Number.NEGATIVE_INFINITY) < SILENT_FOR;
    const others = serving.filter(({ id }) => id !== this.deps.self);
    const found = await this.#askThese(
      others.filter((one) => !isSilent(one)),
      request,
    );
    // Better to wait for one that may be back than to have no exit at all.
    return found.length > 0 ? found : this.#askThese(others.filter(isSilent), request);
  }

  async #askThese(these: readonly SupernodeInfo[], request: RequestExitPeerRequest): Promise<ExitCandidate[]> {
    const found: ExitCandidate[] = [];
    await firstsWithGrace(
      this.deps.clock,
      these.slice(0, ASK_AT_MOST).map(async (one) => {
        const started = this.deps.clock.monotonic();
        try {
          const { exits } = await this.call(one.id, 'requestExitPeer', request, ASK_TIMEOUT);
          this.#measured(one.id, ms(this.deps.clock.monotonic() - started));
          this.#silent.delete(one.id);
          // A supernode speaks for its own exits only.
          found.push(...exits.filter((exit) => exit.supernode === one.id));
        } catch (thrown) {
          const error = toVpndError(thrown);
          if (error.code === 'timeout' || error.code === 'unreachable') {
            this.#silent.set(one.id, this.deps.clock.monotonic());
          }
          this.deps.log.info('a supernode did not answer for its exits', {
            supernode_id: shortId(one.id),
            code: error.code,
          });
        }
      }),
    );
    return found;
  }

  /** Call another supernode at the first of its addresses that answers. */
  async call<M extends UnaryName>(
    id: PeerId,
    method: M,
    request: UnaryCalls[M][0],
    timeout: Millis = CALL_TIMEOUT,
  ): Promise<UnaryCalls[M][1]> {
    const { network, identity } = this.deps;
    const ca = this.deps.ca();
    const refusal = this.deps.refusal(id);
    if (refusal !== undefined) throw refusal;
    let last: unknown = new VpndError('unreachable', `supernode ${shortId(id)} is not in the directory`, {
      retryable: true,
    });
    for (const address of this.info(id)?.addresses ?? []) {
      try {
        return await network.call({ address, expect: { kind: 'supernode', id }, ca, identity }, method, request, {
          timeout,
        });
      } catch (thrown) {
        last = thrown;
        const { code } = toVpndError(thrown);
        if (code === 'draining') this.#refused.set(id, this.deps.clock.now());
        if (code !== 'unreachable') break;
      }
    }
    throw last;
  }

  /** base may have answered before it was banned, or be away since. */
  async #serving(region: Region | undefined): Promise<readonly SupernodeInfo[]> {
    return (await this.#published(region)).filter((one) => !this.#banned(one));
  }

  async #published(region: Region | undefined): Promise<readonly SupernodeInfo[]> {
    const key = region ?? '';
    const known = this.#regions.get(key);
    const now = this.deps.clock.now();
    if (known !== undefined && since(now, known.at) < REGION_FRESH) return known.answer.supernodes;
    const resting = this.#baseSilentAt !== undefined && since(now, this.#baseSilentAt) < BASE_REST;
    for (const target of resting ? [] : this.deps.baseTargets()) {
      try {
        const answer = await this.deps.network.call(target, 'requestExitRegion', { region }, { timeout: ms(800) });
        this.#regions.set(key, { at: this.deps.clock.now(), answer });
        this.#baseSilentAt = undefined;
        return answer.supernodes;
      } catch (thrown) {
        this.#baseSilentAt = this.deps.clock.now();
        this.deps.log.info('base did not answer; using what is known', { code: toVpndError(thrown).code });
      }
    }
    if (known !== undefined) return known.answer.supernodes;
    return this.#supernodes.filter((one) => region === undefined || one.region === region);
  }

  #measured(id: PeerId, took: Millis): void {
    const before = this.#latency.get(id);
    this.#latency.set(id, before === undefined ? took : ms(before * 0.7 + took * 0.3));
  }
}

/** Resolves when all are done, or a moment after the first one is. */
async function firstsWithGrace(clock: Clock, tasks: readonly Promise<void>[]): Promise<void> {
  if (tasks.length === 0) return;
  const all = Promise.all(tasks);
  await Promise.race(tasks);
  let cancel = () => {};
  const grace = new Promise<void>((resolve) => {
    cancel = clock.after(GRACE, resolve);
  });
  await Promise.race([all, grace]);
  cancel();
}
