import { sleep } from '../../core/ports/clock.js';
import { familyOf, sameEndpoint } from '../../model/address.js';
import type { RelayUpdate } from '../../model/command.js';
import { VpndError } from '../../model/errors.js';
import type { EventCode } from '../../model/event.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { News } from '../../model/messages.js';
import type { Privacy } from '../../model/role.js';
import { type Instant, type Millis, minutes, ms, plus } from '../../model/time.js';
import type { ForwardingPorts } from '../ports.js';
import { probeTunnel } from './monitor.js';
import type { HeldTunnel } from './tunnel.js';
import type { Tunnels } from './tunnels.js';

/** How long a direct path is given to show a packet: long enough for a far exit, and short for who waits for theirs. */
const LEAST_TRIAL: Millis = ms(300);
const LONGEST_TRIAL: Millis = ms(1_000);
const LOOK_EVERY: Millis = ms(25);
const PROBE_EVERY: Millis = ms(100);
/** A network that let no direct path through may be asked again after so long. */
const REMEMBER: Millis = minutes(30);

export interface PathDeps {
  readonly ports: ForwardingPorts;
  readonly tunnels: Tunnels;
  /** Puts the tunnels on record, as well as the disk lets it. */
  readonly keep: () => void;
  readonly roundTrip: (slot: number) => Millis | undefined;
  readonly privacy: () => Privacy;
  readonly tell: (supervisor: PeerId | undefined, news: News) => boolean;
  readonly happened: (code: EventCode, text: string, session: SessionId) => void;
}

/**
 * Which way each tunnel's packets take: over the relays, or straight to the exit. Supernodes say when (RELAY_UPDATE);
 * here it is found out whether it works, and on the way nothing is lost (docs/sessions.md).
 */
export class Paths {
  /** Pairs of network and exit that let nothing through, until when that is believed. */
  readonly #hopeless = new Map<string, Instant>();
  /** Sessions that went back to their relays by themselves, and why, until their supernode shows that it knows. */
  readonly #untold = new Map<SessionId, string>();
  /** What the user asked for with `vpnd path`. */
  #asked: 'auto' | 'direct' | 'relay' = 'auto';

  constructor(private readonly deps: PathDeps) {}

  /** The user's own choice, for the present session and those after it. */
  ask(path: 'auto' | 'direct' | 'relay'): void {
    this.#asked = path;
    if (path !== 'relay') this.#hopeless.clear();
  }

  /**
   * RELAY_UPDATE. Resolves when the tunnel goes that way. Rejects with `no-direct` when nothing comes back on it: the
   * way it had before is in use again then.
   */
  async move(tunnel: HeldTunnel, update: RelayUpdate): Promise<void> {
    const { held } = tunnel;
    if (familyOf(held.endpoint.ip) !== familyOf(update.endpoint.ip)) {
      throw new VpndError('no-direct', 'the two ways are of different address families');
    }
    this.#untold.delete(held.session);
    if (update.path === 'direct') await this.#direct(tunnel, update);
    else await this.#set(tunnel, update, `over ${update.path === 'relay' ? 'one supernode' : 'two supernodes'}`);
  }

  /** At once and without asking anybody: the direct way is silent, or the network underneath is another. */
  async backToRelay(tunnel: HeldTunnel, why: string): Promise<void> {
    const { held } = tunnel;
    if (held.relay === undefined || held.path !== 'direct') return;
    // What is sent into a stream that is about to break never arrives.
    this.#untold.set(held.session, why);
    this.wish(tunnel, 'relay', why);
    await this.#set(tunnel, { ...held.relay, keepalive: held.keepalive }, `back to the relay: ${why}`);
  }

  /** Have the supernode arrange it; what comes of it comes as RELAY_UPDATE. False when it cannot be told. */
  wish(tunnel: HeldTunnel, path: 'direct' | 'relay', reason: string): boolean {
    const { supervisor, session } = tunnel.held;
    return this.deps.tell(supervisor, { kind: 'session-path', session, path, reason });
  }

  /** A stream is up: its supernode may have taken relays away that are needed again. */
  lineUp(): void {
    for (const [session, why] of this.#untold) {
      const tunnel = this.deps.tunnels.withSession(session);
      if (tunnel === undefined || tunnel.held.path === 'direct') this.#untold.delete(session);
      else this.wish(tunnel, 'relay', why);
    }
  }

  /** Another network: what did not work in the one before may work here. */
  networkChanged(): void {
    this.#hopeless.clear();
  }

  async #direct(tunnel: HeldTunnel, update: RelayUpdate): Promise<void> {
    const { ports, tunnels } = this.deps;
    const { held, slot } = tunnel;
    const privacy = this.deps.privacy();
    if (privacy === 'private') throw new VpndError('no-direct', 'this client never goes direct (--privacy private)');
    if (this.#asked === 'relay') throw new VpndError('no-direct', 'this client was told to stay on the relay');
    const key = `${ports.networkWatch.current().fingerprint} ${held.exit} ${update.endpoint.ip}`;
    if ((this.#hopeless.get(key) ?? 0) > ports.clock.now() && privacy === 'auto') {
      throw new VpndError('no-direct', 'it was tried from this network, and nothing came through');
    }
    if (
      held.path === 'direct' &&
      held.endpoint.ip === update.endpoint.ip &&
      held.endpoint.port === update.endpoint.port
    )
      return;
    const before = tunnel;
    const trying: HeldTunnel = {
      ...tunnel,
      held: { ...held, endpoint: update.endpoint, keepalive: update.keepalive },
      pin: { from: held.endpoint, to: update.endpoint },
    };
    tunnels.put(trying);
    await tunnels.commit();
    if (await this.#comesThrough(trying)) {
      const now = tunnels.get(slot);
      if (now?.held === undefined || now.held.session !== held.session) return;
      tunnels.put({ ...now, held: { ...now.held, path: 'direct' } });
      this.deps.keep();
      ports.metrics.tunnelChanges.inc({ what: 'path-direct' });
      this.deps.happened('path-direct', `direct to exit ${shortId(held.exit)}`, held.session);
      return;
    }
    this.#hopeless.set(key, plus(ports.clock.now(), REMEMBER));
    const now = tunnels.get(slot);
    if (now?.held?.session === held.session) {
      const { endpoint, keepalive } = before.held;
      tunnels.put({ ...now, held: { ...now.held, endpoint, keepalive }, pin: before.pin });
      await tunnels.commit();
    }
    ports.metrics.tunnelChanges.inc({ what: 'no-direct' });
    throw new VpndError('no-direct', 'nothing came through on the direct path');
  }

  async #comesThrough(tunnel: HeldTunnel): Promise<boolean> {
    const { clock, dataplane, reach } = this.deps.ports;
    const trial = Math.min(LONGEST_TRIAL, Math.max(LEAST_TRIAL, (this.deps.roundTrip(tunnel.slot) ?? 0) * 4));
    const began = clock.monotonic();
    let probed = Number.NEGATIVE_INFINITY;
    while (clock.monotonic() - began < trial) {
      if (clock.monotonic() - probed >= PROBE_EVERY) {
        probed = clock.monotonic();
        void probeTunnel(reach, tunnel.held.inner, LONGEST_TRIAL);
      }
      await sleep(clock, LOOK_EVERY);
      if (this.deps.tunnels.get(tunnel.slot)?.held?.session !== tunnel.held.session) return true;
      const pins = await dataplane.observePins();
      if (pins.some((pin) => pin.device === tunnel.device && pin.toPackets > 0)) return true;
    }
    return false;
  }

  async #set(
    tunnel: HeldTunnel,
    { endpoint, path, keepalive }: Pick<RelayUpdate, 'endpoint' | 'path' | 'keepalive'>,
    text: string,
  ): Promise<void> {
    const { held } = tunnel;
    const moved = !sameEndpoint(held.endpoint, endpoint);
    if (!moved && held.path === path) return;
    this.deps.tunnels.put({
      ...tunnel,
      held: { ...held, endpoint, path, keepalive, relay: { endpoint, path } },
      pin: moved ? { from: held.endpoint, to: endpoint } : tunnel.pin,
    });
    await this.deps.tunnels.commit();
    this.deps.keep();
    if (held.path !== path) {
      this.deps.ports.metrics.tunnelChanges.inc({ what: 'path-relay' });
      this.deps.happened('path-relay', text, held.session);
    }
  }
}
