import type { BaseKey } from '../../core/ports/authority.js';
import { type Clock, sleep } from '../../core/ports/clock.js';
import type { TunnelUse } from '../../model/dataplane.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import { type PeerId, parsePeerId, type SessionId, shortId } from '../../model/ids.js';
import type { PostQuantum } from '../../model/role.js';
import type { ExitWish } from '../../model/session.js';
import { type Millis, ms, plus, seconds } from '../../model/time.js';
import type { Line } from '../common/line.js';
import type { ForwardingPorts } from '../ports.js';
import { askForExit } from './asking.js';
import { checkGrant, type ShutOut } from './held-session.js';
import type { KemPairs } from './kem-pairs.js';
import { probeTunnel } from './monitor.js';
import type { HeldTunnel, Tunnel } from './tunnel.js';
import type { Tunnels } from './tunnels.js';

/** Four candidates of five seconds each, and some more. */
const REQUEST_LIMIT: Millis = seconds(40);
const HANDSHAKE_LIMIT: Millis = seconds(5);
/** Just before WireGuard repeats its handshake: the second one may go inside the stream. */
const CARRY_AFTER: Millis = ms(4_500);
/** Inside the stream: with a handshake under way that went elsewhere, and is repeated after 5 s and up to 0.3 s. */
const CARRIED_LIMIT: Millis = seconds(7);
const HANDSHAKE_LOOK: Millis = ms(5);
const PROBE_LIMIT: Millis = seconds(2);
const PROBE_TRIES = 3;
/** Exits without post-quantum keys that are passed over before the client hears of it. */
const MOST_UNFIT = 4;

export interface OpeningDeps {
  readonly ports: ForwardingPorts;
  readonly baseKey: BaseKey;
  readonly revocations: ShutOut;
  readonly tunnels: Tunnels;
  /** What leases are counted by. */
  readonly leases: Clock;
  /** Puts the tunnel on record; throws where the disk is full. */
  readonly keep: () => void;
  /** Closes a session of which nothing is left here. */
  readonly close: (supervisor: PeerId | undefined, session: SessionId, reason: string) => void;
  /** A tunnel over which UDP does not get through: carry it inside the stream. False where that cannot be done. */
  readonly carry: (tunnel: HeldTunnel) => Promise<boolean>;
  readonly granted: (tunnel: HeldTunnel) => void;
  readonly answersTcp: (supernode: PeerId) => Promise<boolean>;
  readonly pq: PostQuantum;
  readonly pairs: KemPairs;
}

export interface Opening {
  readonly wish: ExitWish;
  readonly line: Line;
  /** What it is from the moment it has its addresses: `active` for the first tunnel, else `standby`. */
  readonly use: TunnelUse;
  /** It will not carry anything soon: probe it, since a handshake alone says nothing about what is behind it. */
  readonly probe: boolean;
  readonly avoidExits: readonly PeerId[];
  readonly avoidSupernodes: readonly PeerId[];
  readonly signal: AbortSignal;
}

/**
 * Ask for a session and bring its tunnel up beside those there are. Rejects with what the supernode answers,
 * `bad-offer`, `no-handshake`, …; nothing of it is left here then, and the supernode is told.
 */
export async function openTunnel(deps: OpeningDeps, opening: Opening): Promise<HeldTunnel> {
  const unfit = new Map<PeerId, unknown>();
  for (;;) {
    try {
      return await attempt(deps, { ...opening, avoidExits: [...opening.avoidExits, ...unfit.keys()] });
    } catch (thrown) {
      // Only here is it known that an exit makes no post-quantum keys: of several exits another one may.
      const exit = withoutKey(thrown);
      const isLast = exit === undefined || unfit.has(exit) || unfit.size >= MOST_UNFIT || opening.wish.exit === exit;
      // "No exit but those" says less than why those will not do.
      if (isLast) throw exit === undefined && toVpndError(thrown).code === 'no-exit' ? firstOf(unfit, thrown) : thrown;
      unfit.set(exit, thrown);
    }
  }
}

const firstOf = (errors: ReadonlyMap<PeerId, unknown>, otherwise: unknown): unknown =>
  errors.values().next().value ?? otherwise;

function withoutKey(thrown: unknown): PeerId | undefined {
  const { code, details } = toVpndError(thrown);
  const exit = code === 'bad-offer' && details.missing !== undefined ? parsePeerId(details.exit ?? '') : undefined;
  return exit?.ok ? exit.value : undefined;
}

async function attempt(deps: OpeningDeps, opening: Opening): Promise<HeldTunnel> {
  const { ports, tunnels } = deps;
  const { line, wish, signal } = opening;
  const started = ports.clock.monotonic();
  const keys = ports.crypto.wireGuardKeyPair();
  const reserved = tunnels.reserve(keys);
  if (reserved === undefined) throw new VpndError('full', 'every tunnel of this client is in use', { retryable: true });
  const { slot } = reserved;
  // The interface takes a while to appear; the request is under way meanwhile.
  const made = tunnels.commit();
  const supervisor = line.supervisor();
  const kem = deps.pairs.take();
  const request = askForExit(
    { clock: ports.clock, answersTcp: deps.answersTcp },
    line,
    {
      ...wish,
      sessionKey: keys.publicKey,
      kemKey: kem?.publicKey ?? new Uint8Array(0),
      standby: opening.use !== 'active',
      avoidExits: opening.avoidExits,
      avoidSupernodes: opening.avoidSupernodes,
    },
    REQUEST_LIMIT,
  );
  // An attempt that was given up before it began does not wait for the answer, and a refusal that nobody has asked for
  // yet, while the interface is made, would end this daemon.
  request.catch(() => {});
  try {
    const [granted, device] = await Promise.allSettled([orAborted(request, signal), made]);
    if (granted.status === 'rejected') throw granted.reason;
    const expected = { keys, wish, baseKey: deps.baseKey, revocations: deps.revocations, supervisor, pq: deps.pq, kem };
    const granting = checkGrant(granted.value, expected, ports, ports.clock.now());
    const held = { ...granting, leaseUntil: plus(deps.leases.now(), granted.value.lease) };
    if (device.status === 'rejected') throw device.reason;
    signal.throwIfAborted();
    const tunnel: HeldTunnel = { ...reserved, use: opening.use, held };
    tunnels.put(tunnel);
    deps.granted(tunnel);
    deps.keep();
    // Where UDP is known to be blocked not even the first handshake takes that way: it would be repeated 5 s later only.
    if (line.udp() !== 'blocked' || !(await deps.carry(tunnel))) await tunnels.commit();
    await handshake(deps, slot, signal);
    if (opening.probe) await probed(deps, slot, signal);
    const up = current(tunnels, slot);
    const connectedAfter = ms(ports.clock.monotonic() - started);
    // On record since it was granted; how long this took is not worth making everybody wait for the disk once more.
    const done: HeldTunnel = { ...up, held: { ...up.held, connectedAfter } };
    tunnels.put(done);
    ports.metrics.firstPacketMs.observe(connectedAfter);
    line.upstream.tell({ kind: 'session-handshake', session: held.session, took: connectedAfter });
    ports.log.info('a tunnel is up', { session_id: held.session, path: held.path, took_ms: connectedAfter });
    return done;
  } catch (thrown) {
    // Also of a grant that is refused, or comes after this side gave up: ports and addresses are taken for it.
    const reason = toVpndError(thrown).code;
    request.then(
      ({ session }) => deps.close(supervisor, session, reason),
      () => {},
    );
    await made.catch(() => {});
    if (tunnels.get(slot)?.keys === keys) {
      tunnels.drop(slot);
      await tunnels.commit().catch((err: unknown) => ports.log.warn('a tunnel could not be taken down', { err }));
    }
    throw thrown;
  }
}

async function handshake(deps: OpeningDeps, slot: number, signal: AbortSignal): Promise<void> {
  const { clock, dataplane } = deps.ports;
  const began = clock.monotonic();
  let isTried = current(deps.tunnels, slot).carriedAt !== undefined;
  let giveUpAt = began + (isTried ? CARRIED_LIMIT : HANDSHAKE_LIMIT);
  for (;;) {
    const tunnel = current(deps.tunnels, slot);
    const { held, device } = tunnel;
    const peers = await dataplane.observePeers();
    const seen = peers.find((one) => one.device === device && one.publicKey === held.exitKey);
    if (seen?.lastHandshake !== undefined) return;
    if (!isTried && clock.monotonic() - began >= CARRY_AFTER) {
      isTried = true;
      if (await deps.carry(tunnel)) giveUpAt = clock.monotonic() + CARRIED_LIMIT;
    }
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

async function probed(deps: OpeningDeps, slot: number, signal: AbortSignal): Promise<void> {
  for (let n = 0; n < PROBE_TRIES; n++) {
    const { held } = current(deps.tunnels, slot);
    if ((await probeTunnel(deps.ports.reach, held.inner, PROBE_LIMIT)) !== undefined) return;
    signal.throwIfAborted();
  }
  throw new VpndError('no-handshake', 'the exit shook hands, and answers nothing through the tunnel', {
    retryable: true,
  });
}

/** The tunnel may have been changed, or taken away, while something was waited for. */
function current(tunnels: Tunnels, slot: number): HeldTunnel {
  const tunnel: Tunnel | undefined = tunnels.get(slot);
  if (tunnel?.held === undefined) throw new VpndError('closed', 'the tunnel was taken down meanwhile');
  return { ...tunnel, held: tunnel.held };
}

function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
