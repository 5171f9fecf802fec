import { newCommand } from '../../core/commands.js';
import { type Endpoint, familyOf, type IpAddress } from '../../model/address.js';
import { KEEPALIVE_S, type RelayUpdate } from '../../model/command.js';
import { type ErrorCode, toVpndError, VpndError } from '../../model/errors.js';
import type { SessionId } from '../../model/ids.js';
import type { UpdateSessionRequest } from '../../model/messages.js';
import type { ConnectedPeer } from '../../transport/stream-manager.js';
import type { FrontDeps } from './front.js';
import { type FrontBook, type FrontSession, GRANTED, hopOf } from './front-book.js';
import type { FrontRelay } from './front-relay.js';

/** What became of an attempt to go direct. */
export type Tried =
  | { readonly kind: 'direct' }
  /** Tried: no packet came through. Everything is as it was. */
  | { readonly kind: 'no-direct'; readonly client: IpAddress; readonly exit: IpAddress }
  /** The client could not find out, as its tunnel was in use. Everything is as it was. */
  | { readonly kind: 'busy' }
  /** Nothing was moved. */
  | { readonly kind: 'not-now'; readonly code: ErrorCode | 'not-tried' }
  /** A node on the way knows of no such thing. */
  | { readonly kind: 'never' }
  /** Somebody may have moved who has not been moved back. */
  | { readonly kind: 'unsure' };

/** Refusals of the exit's supernode, or of the exit, that leave everything as it was. */
const UNTOUCHED: readonly ErrorCode[] = ['no-path', 'no-session', 'exit-gone', 'draining', 'stale-generation'];

/** A session's moves between its relays and the direct path. Each runs in the session's turn, and is on record before. */
export class FrontMoves {
  constructor(
    private readonly deps: FrontDeps,
    private readonly book: FrontBook,
    private readonly relay: FrontRelay,
    /** Its client does not hold a session any more, and could not say so. */
    private readonly gone: (one: FrontSession) => void,
  ) {}

  /** The exit first, then the client. `worth` says whether it is worth trying from the client's address. */
  async toDirect(session: SessionId, worth: (client: IpAddress) => boolean): Promise<Tried> {
    const one = this.book.get(session);
    const peer = one && this.deps.streams().peer(one.client);
    if (one?.way.kind !== 'granted' || peer === undefined) return { kind: 'not-now', code: 'not-tried' };
    const client = (await this.deps.relays()).find(({ port }) => port === one.port)?.learned;
    if (client === undefined) return { kind: 'not-now', code: 'no-path' };
    if (!worth(client.ip)) return { kind: 'not-now', code: 'not-tried' };

    const moving = this.book.save({ ...one, generation: one.generation + 1, way: { kind: 'moving', client } });
    let exit: Endpoint;
    try {
      ({ endpoint: exit } = await this.#askExit(moving, { path: 'direct', clientEndpoint: client }));
    } catch (thrown) {
      const { code } = toVpndError(thrown);
      if (code !== 'not-supported' && !UNTOUCHED.includes(code)) return this.#unsure(moving);
      this.book.note({ ...moving, way: GRANTED });
      return code === 'not-supported' ? { kind: 'never' } : { kind: 'not-now', code };
    }
    if (familyOf(exit.ip) !== familyOf(client.ip)) return this.#unsure(moving);

    try {
      await this.#tellClient(moving, exit, 'direct');
    } catch (thrown) {
      const { code, retryable } = toVpndError(thrown);
      const stayed = code === 'no-direct' || code === 'not-supported';
      // The client has set everything back by itself, so that only the exit is to be told.
      if (!stayed || !(await this.#exitBack(moving))) return this.#unsure(moving);
      if (code === 'no-direct' && retryable) return { kind: 'busy' };
      return code === 'not-supported' ? { kind: 'never' } : { kind: 'no-direct', client: client.ip, exit: exit.ip };
    }
    const since = this.deps.clock.now();
    const way = { kind: 'direct', client, exit, streamFrom: peer.remote.ip, since, settled: false } as const;
    this.book.note({ ...moving, way });
    return { kind: 'direct' };
  }

  /**
   * The relays first, then the exit, then the client, so that whoever moves finds them forwarding. False where that is not
   * done yet: it can be repeated. Rejects where the session has no relays to go to.
   */
  async toRelays(session: SessionId): Promise<boolean> {
    const before = this.book.get(session);
    if (before === undefined) return true;
    this.book.note({ ...before, generation: before.generation + 1, way: { kind: 'returning' } });
    const peer = this.deps.streams().peer(before.client);
    if (peer === undefined) return false;
    const one = this.#withPort(this.book.get(session) ?? before, peer);
    try {
      const lease = this.relay.leaseOf(one);
      await this.relay.order(one, peer, lease);
      const restored = one.next === undefined ? await this.#anew(one, peer) : await this.#farRelay(one, peer);
      const told = this.#tellClient(restored, hopOf(restored) as Endpoint, restored.path);
      const isHeld = await told.then(() => true, holdsIt);
      this.book.note({ ...(this.book.get(session) ?? restored), way: GRANTED });
      // One that is not up yet may be on its way to the client still.
      if (!isHeld && restored.established) this.gone(restored);
      return true;
    } catch (thrown) {
      const { code, message } = toVpndError(thrown);
      this.deps.log.info('a session is not back on its relays yet', { session_id: session, code, reason: message });
      return false;
    }
  }

  /** The direct path holds: the relays leave the kernels. Rejects, with nothing changed that matters, where one fails. */
  async settle(session: SessionId): Promise<void> {
    const one = this.book.get(session);
    const peer = one && this.deps.streams().peer(one.client);
    if (one?.way.kind !== 'direct' || one.way.settled || peer === undefined) return;
    const next = this.book.save({ ...one, generation: one.generation + 1 });
    await this.#askExit(next, { path: 'direct', clientEndpoint: one.way.client, settled: true });
    const settled = { ...next, way: { ...one.way, settled: true } };
    await this.relay.order(settled, peer, this.relay.leaseOf(one));
    this.book.note(settled);
  }

  async #unsure(one: FrontSession): Promise<Tried> {
    this.book.note({ ...one, way: { kind: 'returning' } });
    return { kind: 'unsure' };
  }

  async #exitBack(one: FrontSession): Promise<boolean> {
    const next = { ...one, generation: one.generation + 1 };
    this.book.note(next);
    try {
      await this.#askExit(next, { path: one.path });
    } catch {
      return false;
    }
    this.book.note({ ...next, way: GRANTED });
    return true;
  }

  async #farRelay(one: FrontSession, peer: ConnectedPeer): Promise<FrontSession> {
    try {
      const { endpoint } = await this.#askExit(one, { path: one.path });
      return await this.relay.follow(one, peer, endpoint, this.relay.leaseOf(one));
    } catch (thrown) {
      if (toVpndError(thrown).code !== 'no-session') throw thrown;
      return this.#anew(one, peer);
    }
  }

  /** The exit's supernode has no relay for this session yet, or has lost it. */
  async #anew(one: FrontSession, peer: ConnectedPeer): Promise<FrontSession> {
    const next = this.book.save({ ...one, generation: one.generation + 1 });
    return this.relay.extend(next, peer, this.relay.leaseOf(one));
  }

  /** A session that was granted direct has no relay port: it gets one. */
  #withPort(one: FrontSession, peer: ConnectedPeer): FrontSession {
    if (one.port !== undefined) return one;
    const { self, config } = this.deps;
    const families = new Set(this.deps.vouched(peer).map(familyOf));
    const localIp = config.relayIps.find((ip) => families.has(familyOf(ip)));
    const port = one.exit === self || localIp === undefined ? undefined : this.book.takePort();
    if (port === undefined) {
      this.book.note({ ...one, way: GRANTED });
      throw new VpndError('no-path', 'this supernode has no relay for a session that was direct from its start');
    }
    const oneHop = one.supernode === self || one.exit === one.supernode;
    const relayed: FrontSession = { ...one, port, localIp, path: oneHop ? 'relay' : 'relay2' };
    this.book.note(relayed);
    return relayed;
  }

  #askExit(one: FrontSession, wish: Pick<UpdateSessionRequest, 'path'> & Partial<UpdateSessionRequest>) {
    const { session, generation } = one;
    const nothing = { clientEndpoint: undefined, settled: false };
    return this.deps.updateAt(one.supernode, { ...nothing, ...wish, session, generation });
  }

  async #tellClient(one: FrontSession, endpoint: Endpoint, path: RelayUpdate['path']): Promise<void> {
    const update: RelayUpdate = { kind: 'relay-update', endpoint, keepalive: KEEPALIVE_S, path };
    const lease = this.relay.leaseOf(one);
    const command = newCommand(this.deps.random, one.session, one.generation, lease, update);
    await this.deps.streams().command(one.client, command);
  }
}

/** A client that knows no RELAY_UPDATE has never left its relay; false where it has not got the session. */
function holdsIt(thrown: unknown): boolean {
  const { code } = toVpndError(thrown);
  if (code !== 'not-supported' && code !== 'no-session') throw thrown;
  return code === 'not-supported';
}
