import { sleep } from '../../core/ports/clock.js';
import { type Endpoint, familyOf, sameEndpoint } from '../../model/address.js';
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
import { LONGEST_SEARCH, WaySearch } from './way-search.js';

/** How long an answer of the exit is waited for: long enough for a far one, and short for who waits for it. */
const LEAST_PATIENCE: Millis = ms(300);
const MOST_PATIENCE: Millis = ms(1_000);
/** A user who asks for the direct path waits so long for a sign that it is there before their own packets try it. */
const HASTE: Millis = ms(700);
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
  /** How long ago anything came through a tunnel. */
  readonly quietFor: (slot: number) => Millis;
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
  /** Moves to direct paths that are under way: an order is repeated when it is not answered in time. */
  readonly #moving = new Map<SessionId, { readonly to: Endpoint; readonly done: Promise<void> }>();
  /** Changes of the network underneath. */
  #networks = 0;

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
    if (update.path === 'direct') await this.#once(tunnel, update);
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
    this.#networks++;
    this.#hopeless.clear();
  }

  async #once(tunnel: HeldTunnel, update: RelayUpdate): Promise<void> {
    const { session } = tunnel.held;
    const under = this.#moving.get(session);
    if (under !== undefined) {
      if (!sameEndpoint(under.to, update.endpoint))
        throw new VpndError('no-direct', 'another direct path is being tried');
      return under.done;
    }
    const done = this.#direct(tunnel, update).finally(() => this.#moving.delete(session));
    this.#moving.set(session, { to: update.endpoint, done });
    return done;
  }

  async #direct(tunnel: HeldTunnel, update: RelayUpdate): Promise<void> {
    const { ports, tunnels } = this.deps;
    const { held, slot } = tunnel;
    const privacy = this.deps.privacy();
    if (privacy === 'private') throw new VpndError('no-direct', 'this client never goes direct (--privacy private)');
    if (this.#asked === 'relay') throw new VpndError('no-direct', 'this client was told to stay on the relay');
    const key = `${ports.networkWatch.current().fingerprint} ${held.exit} ${update.endpoint.ip}`;
    const known = (this.#hopeless.get(key) ?? 0) > ports.clock.now();
    if (known && privacy === 'auto') {
      throw new VpndError('no-direct', 'it was tried from this network, and nothing came through');
    }
    if (sameEndpoint(held.endpoint, update.endpoint)) {
      if (held.path === 'direct') return;
      throw new VpndError('no-direct', 'this is no other way than the one it has');
    }
    const network = this.#networks;
    const wanted = () => this.#networks === network && this.#asked !== 'relay';
    // Whoever wants to be direct at any price pays it once.
    const hasty = this.#asked === 'direct' || (privacy === 'direct' && !known);
    const found = await new WaySearch(tunnel, {
      ports,
      tunnels,
      at: update.endpoint,
      limit: hasty ? HASTE : LONGEST_SEARCH,
      patience: this.#patience(slot),
      quietFor: this.deps.quietFor(slot),
      wanted,
    }).run();
    if (found === 'over') {
      if (tunnels.withSession(held.session) === undefined) return;
      throw new VpndError('no-direct', 'the tunnel has changed while a direct path was looked for');
    }
    if (found === 'open' || hasty) {
      if (await this.#takes(held.session, update, wanted)) return;
    }
    ports.metrics.tunnelChanges.inc({ what: 'no-direct' });
    if (found === 'unsure' && !hasty) {
      const text = 'nothing came by itself on the direct path, and the tunnel was too busy to try more';
      throw new VpndError('no-direct', text, { retryable: true });
    }
    if (wanted()) this.#hopeless.set(key, plus(ports.clock.now(), REMEMBER));
    throw new VpndError('no-direct', 'nothing came through on the direct path');
  }

  /** The tunnel itself goes there. False where nothing comes back, or nobody wants it any more, and it is as it was. */
  async #takes(session: SessionId, { endpoint, keepalive }: RelayUpdate, wanted: () => boolean): Promise<boolean> {
    const { ports, tunnels } = this.deps;
    const before = tunnels.withSession(session);
    if (before === undefined) return true;
    const { held } = before;
    const trying: HeldTunnel = {
      ...before,
      held: { ...held, endpoint, keepalive },
      pin: { from: held.endpoint, to: endpoint },
      search: undefined,
    };
    tunnels.put(trying);
    await tunnels.commit();
    const through = (await this.#comesThrough(trying)) && wanted();
    const now = tunnels.withSession(session);
    if (now === undefined) return true;
    if (!through) {
      const { endpoint: back, keepalive: kept } = held;
      tunnels.put({ ...now, held: { ...now.held, endpoint: back, keepalive: kept }, pin: before.pin });
      await tunnels.commit();
      return false;
    }
    tunnels.put({ ...now, held: { ...now.held, path: 'direct' } });
    this.deps.keep();
    ports.metrics.tunnelChanges.inc({ what: 'path-direct' });
    this.deps.happened('path-direct', `direct to exit ${shortId(held.exit)}`, session);
    return true;
  }

  async #comesThrough(tunnel: HeldTunnel): Promise<boolean> {
    const { clock, dataplane, reach } = this.deps.ports;
    const { slot, device, held } = tunnel;
    const patience = this.#patience(slot);
    const began = clock.monotonic();
    let probed = Number.NEGATIVE_INFINITY;
    while (clock.monotonic() - began < patience) {
      if (clock.monotonic() - probed >= PROBE_EVERY) {
        probed = clock.monotonic();
        void probeTunnel(reach, held.inner, MOST_PATIENCE);
      }
      await sleep(clock, LOOK_EVERY);
      if (this.deps.tunnels.get(slot)?.held?.session !== held.session) return true;
      const pins = await dataplane.observePins();
      if (pins.some((pin) => pin.device === device && pin.toPackets > 0)) return true;
    }
    return false;
  }

  #patience(slot: number): Millis {
    return ms(Math.min(MOST_PATIENCE, Math.max(LEAST_PATIENCE, (this.deps.roundTrip(slot) ?? 0) * 4)));
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
      search: undefined,
    });
    await this.deps.tunnels.commit();
    this.deps.keep();
    if (held.path !== path) {
      this.deps.ports.metrics.tunnelChanges.inc({ what: 'path-relay' });
      this.deps.happened('path-relay', text, held.session);
    }
  }
}
