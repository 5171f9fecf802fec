import type { ClientConfig } from '../../config/types.js';
import { sleep } from '../../core/ports/clock.js';
import type { Bytes } from '../../model/bytes.js';
import type { PeerObservation } from '../../model/dataplane.js';
import { unitIdOf } from '../../model/dataplane.js';
import type { SupernodeInfo } from '../../model/directory.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { WireGuardPublicKey } from '../../model/keys.js';
import type { News } from '../../model/messages.js';
import type { ExitWish, SessionDigest, SessionGrant } from '../../model/session.js';
import { type Instant, type Millis, ms, plus, seconds, since } from '../../model/time.js';
import type { ForwardingPorts } from '../ports.js';
import { bareDevice, checkGrant, type HeldSession, holdingUnits, sessionUnits } from './held-session.js';

/**
 * What the client does at present.
 *
 * idle -> requesting -> connecting -> up; up -> waiting (session lost or to be replaced, intent kept) -> requesting;
 * any -> idle by down.
 */
export type TunnelState =
  | { readonly kind: 'idle' }
  | { readonly kind: 'requesting'; readonly since: Instant }
  | { readonly kind: 'connecting'; readonly held: HeldSession }
  | { readonly kind: 'up'; readonly held: HeldSession }
  | { readonly kind: 'waiting'; readonly why: VpndError; readonly lost: HeldSession; readonly attempt: number };

export interface TunnelDeps {
  readonly config: ClientConfig;
  readonly ports: ForwardingPorts;
  readonly baseKey: Bytes;
  readonly supernodes: () => readonly SupernodeInfo[];
  readonly requestExit: (wish: ExitWish, key: WireGuardPublicKey) => Promise<SessionGrant>;
  /** The supernode that the stream goes to at present. */
  readonly supervisor: () => PeerId | undefined;
  /** Try to reach the session's own supernode, for a few seconds at most. */
  readonly goHome: () => Promise<void>;
  readonly tell: (news: News) => boolean;
  readonly changed: () => void;
}

const SESSION_FACT = 'session';
const WISH_FACT = 'wish';
const HANDSHAKE_LIMIT: Millis = seconds(5);
const HANDSHAKE_LOOK: Millis = ms(5);
const RELEASE_LIMIT: Millis = seconds(6);
/** WireGuard renews its handshake every 120 s and gives a peer up after 180 s; later than that nothing passes. */
const HANDSHAKE_STALE: Millis = seconds(190);
const LONGEST_WAIT: Millis = seconds(30);

/**
 * The client's one tunnel. A wish that was granted once is kept: a session that is lost is asked for again until
 * `down`, and meanwhile traffic is held, not leaked.
 */
export class Tunnel {
  #state: TunnelState = { kind: 'idle' };
  #wish: ExitWish | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #abort = new AbortController();
  #released = new Map<SessionId, (everywhere: boolean) => void>();
  #cancelRetry: () => void = () => {};
  #lastChange = '';
  /** Facts that could not be removed: the disk was full. Tried again until they are. */
  readonly #unforgotten = new Set<string>();
  /** A session already taken down here, of which its own supernode is still to be told. */
  #leaving: HeldSession | undefined;

  constructor(private readonly deps: TunnelDeps) {}

  get state(): TunnelState {
    return this.#state;
  }

  get lastChange(): string {
    return this.#lastChange;
  }

  /** Take up what the store and the kernel have. Called once, before the stream is up. */
  async start(): Promise<void> {
    const { store, dataplane, clock, log } = this.deps.ports;
    this.#wish = store.facts.get<ExitWish>(WISH_FACT);
    const held = store.facts.get<HeldSession>(SESSION_FACT);
    if (held !== undefined && this.#wish !== undefined && held.leaseUntil > clock.now()) {
      const found = await dataplane.reconcile(sessionUnits(this.deps.config, held, this.deps.supernodes()));
      log.info('took up the running session', { session_id: held.session, count: found.repaired.length });
      this.#become({ kind: 'up', held }, 'the daemon was restarted');
      return;
    }
    if (held !== undefined && this.#wish !== undefined) {
      await dataplane.reconcile(holdingUnits(this.deps.config, held, this.deps.supernodes()));
      this.#lose(
        held,
        new VpndError('no-session', 'the session ended while this machine was away', { retryable: true }),
      );
      return;
    }
    store.facts.remove(SESSION_FACT);
    await dataplane.reconcile([]);
  }

  /** What a supervisor is to know of: another's session is none of its business. */
  digest(supervisor: PeerId | undefined): readonly SessionDigest[] {
    const held = this.#held();
    return held === undefined || held.supervisor !== supervisor
      ? []
      : [{ session: held.session, generation: held.generation }];
  }

  /**
   * Resolves when the handshake is through. A session that was up before is replaced; where that fails, what was wished
   * for before still is, and asked for again. Traffic is held meanwhile.
   */
  async up(wish: ExitWish, signal: AbortSignal): Promise<void> {
    this.#cancelRetry();
    await this.#inTurn(async () => {
      if (this.#state.kind === 'up') await this.#makeWay(this.#state.held);
      try {
        await this.#connect(wish, AbortSignal.any([signal, this.#abort.signal]));
      } catch (thrown) {
        if (this.state.kind === 'waiting') this.#retry(0);
        throw thrown;
      }
      try {
        this.#keep(WISH_FACT, wish);
      } catch (thrown) {
        const held = this.#held();
        if (held !== undefined) await this.#leave(held, toVpndError(thrown).code);
        this.#wish = undefined;
        this.#forget(WISH_FACT);
        this.#become({ kind: 'idle' }, toVpndError(thrown).message);
        throw thrown;
      }
      this.#wish = wish;
    });
  }

  /** Nothing is left here afterwards; says whether nothing is left elsewhere either. */
  async down(): Promise<{ readonly wasUp: boolean; readonly releasedEverywhere: boolean }> {
    this.#cancelRetry();
    this.#abort.abort(new VpndError('closed', 'vpnd down was asked for'));
    return this.#inTurn(async () => {
      this.#abort = new AbortController();
      this.#wish = undefined;
      this.#forget(WISH_FACT);
      const held = this.#held();
      const waiting = this.#state.kind === 'waiting';
      const releasedEverywhere = held === undefined ? true : await this.#leave(held, 'vpnd down');
      if (waiting) await this.#clear();
      this.#become({ kind: 'idle' }, 'vpnd down');
      return { wasUp: held !== undefined || waiting, releasedEverywhere };
    });
  }

  /** The supervisor says that a session is gone: the answer to our own news, or its decision. */
  disconnected(session: SessionId, reason: string): void {
    const release = this.#released.get(session);
    if (release !== undefined) {
      release(reason === 'released');
      return;
    }
    const held = this.#held();
    if (held?.session !== session || this.#state.kind !== 'up') return;
    void this.#inTurn(async () => {
      if (this.#held()?.session === session)
        this.#lose(held, new VpndError('exit-gone', `the supernode ended it: ${reason}`, { retryable: true }));
    });
  }

  renewed(session: SessionId, generation: number, lease: Millis): void {
    if (this.#state.kind !== 'up' || this.#state.held.session !== session) return;
    this.#hold({ ...this.#state.held, generation, leaseUntil: plus(this.deps.ports.clock.now(), lease) });
  }

  /** The supernodes changed: what is exempt from the tunnel follows. */
  async refreshExemptions(): Promise<void> {
    await this.#inTurn(async () => {
      const held = this.#held();
      if (held !== undefined) await this.deps.ports.dataplane.apply({ put: this.#units(held) });
    });
  }

  /** Once in a while: is the lease over, does anything pass, is the kernel as it should be? */
  async check(): Promise<void> {
    await this.#inTurn(async () => {
      const { clock, dataplane, log, metrics } = this.deps.ports;
      for (const name of [...this.#unforgotten]) this.#forget(name);
      const held = this.#held();
      if (held === undefined) return;
      if (this.#state.kind === 'up' && held.leaseUntil <= clock.now()) {
        return this.#lose(
          held,
          new VpndError('no-session', 'its lease ran out with no supernode to renew it', { retryable: true }),
        );
      }
      const observed = await this.observe();
      if (this.#state.kind === 'up' && isStale(observed, held, clock.now())) {
        return this.#lose(
          held,
          new VpndError('no-handshake', 'nothing passes through the tunnel any more', { retryable: true }),
        );
      }
      const found = await dataplane.reconcile(this.#units(held));
      for (const unit of found.repaired) {
        metrics.repairs.inc({ what: unit.slice(0, unit.indexOf('/')) });
        log.warn('repaired what somebody else had changed', { unit });
      }
    });
  }

  /** The supernode that granted the session, while there is one. */
  supervisor(): PeerId | undefined {
    return (this.#leaving ?? this.#held())?.supervisor;
  }

  async observe(): Promise<PeerObservation | undefined> {
    const held = this.#held();
    if (held === undefined || this.#state.kind === 'waiting') return undefined;
    const all = await this.deps.ports.dataplane.observePeers();
    return all.find((one) => one.device === this.deps.config.interface && one.publicKey === held.exitKey);
  }

  /** Leaves the tunnel as it is. */
  async stop(): Promise<void> {
    this.#cancelRetry();
    this.#abort.abort(new VpndError('closed', 'the client is stopping'));
    await this.#turn.catch(() => {});
    // What stays on record is taken up at the next start, as if `down` had never been said.
    for (const name of [...this.#unforgotten]) this.#forget(name);
  }

  async #connect(wish: ExitWish, signal: AbortSignal): Promise<void> {
    const { ports, config } = this.deps;
    const started = ports.clock.monotonic();
    const keys = ports.crypto.wireGuardKeyPair();
    const holding = this.#state.kind === 'waiting' ? this.#state.lost : undefined;
    this.#become({ kind: 'requesting', since: ports.clock.now() }, 'asked for an exit');
    // The interface takes a while to appear; the request is under way meanwhile. While traffic is held, it is there.
    const device =
      holding === undefined ? ports.dataplane.apply({ put: [bareDevice(config, keys)] }) : Promise.resolve();
    const request = this.deps.requestExit(wish, keys.publicKey);
    let held: HeldSession | undefined;
    try {
      const [granted, made] = await Promise.allSettled([orAborted(request, signal), device]);
      if (granted.status === 'rejected') throw granted.reason;
      held = checkGrant(
        granted.value,
        { keys, wish, baseKey: this.deps.baseKey, supervisor: this.deps.supervisor() },
        ports.statements,
        ports.clock.now(),
      );
      if (made.status === 'rejected') throw made.reason;
      signal.throwIfAborted();
      this.#become({ kind: 'connecting', held }, `exit ${shortId(held.exit)} was granted`);
      this.#keep(SESSION_FACT, held);
      await ports.dataplane.apply({ put: sessionUnits(config, held, this.deps.supernodes()) });
      await this.#handshake(held, signal);
      const connectedAfter = ms(ports.clock.monotonic() - started);
      // On record since it was granted; how long this took is not worth making everybody wait for the disk once more.
      this.#become(
        { kind: 'up', held: { ...held, connectedAfter } },
        `connected to exit ${shortId(held.exit)} over ${held.path}`,
      );
      ports.metrics.firstPacketMs.observe(connectedAfter);
      this.deps.tell({ kind: 'session-handshake', session: held.session, took: connectedAfter });
      ports.log.info('connected', { session_id: held.session, path: held.path, took_ms: connectedAfter });
    } catch (thrown) {
      // Also of a grant that is refused, or comes after this side gave up: ports and addresses are taken for it.
      const reason = toVpndError(thrown).code;
      request.then(
        ({ session }) => this.deps.tell({ kind: 'session-closed', session, reason }),
        () => {},
      );
      if (holding === undefined) {
        await this.#clear();
        this.#become({ kind: 'idle' }, toVpndError(thrown).message);
      } else {
        await ports.dataplane.apply({ remove: this.#peerIds(held) });
        this.#state = { kind: 'waiting', why: toVpndError(thrown), lost: holding, attempt: 0 };
      }
      throw thrown;
    }
  }

  async #handshake(held: HeldSession, signal: AbortSignal): Promise<void> {
    const { clock } = this.deps.ports;
    const giveUpAt = clock.monotonic() + HANDSHAKE_LIMIT;
    for (;;) {
      const seen = await this.observe();
      if (seen?.lastHandshake !== undefined) return;
      if (clock.monotonic() >= giveUpAt) {
        const udp = held.path === 'direct' ? 'the exit' : 'the supernode';
        throw new VpndError(
          'no-handshake',
          `no answer from exit ${shortId(held.exit)} through the tunnel in ${HANDSHAKE_LIMIT / 1000} s; UDP to ${udp} may be blocked here (vpnd doctor tells)`,
          { retryable: true },
        );
      }
      await sleep(clock, HANDSHAKE_LOOK, signal);
    }
  }

  /** Take our side down at once, then wait for the supernode's word that nothing is left on the way either. */
  async #leave(held: HeldSession, reason: string): Promise<boolean> {
    const { clock } = this.deps.ports;
    await this.#clear();
    let cancel = () => {};
    const released = new Promise<boolean>((resolve) => {
      this.#released.set(held.session, resolve);
      cancel = clock.after(RELEASE_LIMIT, () => resolve(false));
    });
    if (held.supervisor !== this.deps.supervisor()) {
      this.#leaving = held;
      await this.deps.goHome();
      this.#leaving = undefined;
    }
    if (!this.deps.tell({ kind: 'session-closed', session: held.session, reason }))
      this.#released.get(held.session)?.(false);
    const everywhere = await released;
    cancel();
    this.#released.delete(held.session);
    return everywhere;
  }

  async #clear(): Promise<void> {
    await this.deps.ports.dataplane.reconcile([]);
    this.#forget(SESSION_FACT);
    this.#state = { kind: 'idle' };
  }

  /** The session is to be replaced. Its routes stay, so that nothing leaves outside a tunnel meanwhile. */
  async #makeWay(held: HeldSession): Promise<void> {
    const why = new VpndError('closed', 'another exit was asked for');
    await this.deps.ports.dataplane.apply({ remove: this.#peerIds(held) });
    this.deps.tell({ kind: 'session-closed', session: held.session, reason: why.message });
    this.#wait(held, why);
  }

  /** The session is over, the wish is not. */
  #lose(held: HeldSession, why: VpndError): void {
    this.deps.ports.log.warn('the session was lost; asking for another', {
      session_id: held.session,
      code: why.code,
      reason: why.message,
    });
    this.deps.tell({ kind: 'session-closed', session: held.session, reason: why.code });
    this.#wait(held, why);
    this.#retry(0);
  }

  #wait(held: HeldSession, why: VpndError): void {
    // A restart must not take it for a running one.
    try {
      this.#keep(SESSION_FACT, { ...held, leaseUntil: this.deps.ports.clock.now() });
    } catch (err) {
      this.deps.ports.log.warn('a lost session stays on record', { session_id: held.session, err });
    }
    this.#become({ kind: 'waiting', why, lost: held, attempt: 0 }, why.message);
  }

  #retry(attempt: number): void {
    const { clock, log, dataplane } = this.deps.ports;
    this.#cancelRetry();
    const wait = attempt === 0 ? 0 : Math.min(LONGEST_WAIT, 500 * 1.7 ** attempt);
    this.#cancelRetry = clock.after(ms(wait), () => {
      void this.#inTurn(async () => {
        if (this.#state.kind !== 'waiting' || this.#wish === undefined) return;
        try {
          await dataplane.apply({ remove: this.#peerIds(this.#state.lost) });
          await this.#connect(this.#wish, this.#abort.signal);
        } catch (thrown) {
          const error = toVpndError(thrown);
          log.info('no new session yet', { code: error.code, reason: error.message });
          if (this.#wish !== undefined && !this.#abort.signal.aborted) this.#retry(attempt + 1);
        }
      });
    });
  }

  #units(held: HeldSession) {
    const build = this.#state.kind === 'waiting' ? holdingUnits : sessionUnits;
    return build(this.deps.config, held, this.deps.supernodes());
  }

  #peerIds(held: HeldSession | undefined) {
    return held === undefined
      ? []
      : sessionUnits(this.deps.config, held, [])
          .filter((unit) => unit.kind === 'peer')
          .map(unitIdOf);
  }

  #held(): HeldSession | undefined {
    switch (this.#state.kind) {
      case 'connecting':
      case 'up':
        return this.#state.held;
      case 'waiting':
        return this.#state.lost;
      case 'idle':
      case 'requesting':
        return undefined;
    }
  }

  #hold(held: HeldSession): void {
    this.#state = { kind: 'up', held };
    this.deps.changed();
    this.#keep(SESSION_FACT, held);
  }

  #keep(name: string, value: unknown): void {
    this.deps.ports.store.facts.put(name, value);
    this.#unforgotten.delete(name);
  }

  /** Never throws: a full disk is no reason to stay in a tunnel that is not wanted any more. */
  #forget(name: string): void {
    try {
      this.deps.ports.store.facts.remove(name);
      this.#unforgotten.delete(name);
    } catch (err) {
      if (!this.#unforgotten.has(name))
        this.deps.ports.log.warn(`the ${name} cannot be taken off the record yet`, { err });
      this.#unforgotten.add(name);
    }
  }

  #become(state: TunnelState, change: string): void {
    this.#state = state;
    this.#lastChange = change;
    this.deps.changed();
  }

  /** One thing at a time: up, down and what the supernode says would otherwise meet half-way. */
  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(task, task);
    this.#turn = result.catch(() => {});
    return result;
  }
}

/** Whether a tunnel that should carry traffic has gone quiet for longer than WireGuard itself would bear. */
export function isStale(seen: PeerObservation | undefined, held: HeldSession, now: Instant): boolean {
  return since(now, seen?.lastHandshake ?? held.openedAt) > HANDSHAKE_STALE;
}

function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
