import { newCommand } from '../../core/commands.js';
import { type Endpoint, familyOf } from '../../model/address.js';
import { KEEPALIVE_S, type RelaySetup, type RelayUpdate } from '../../model/command.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { UpdateSessionRequest, UpdateSessionResponse } from '../../model/messages.js';
import type { Path } from '../../model/role.js';
import { type Millis, ms, since } from '../../model/time.js';
import type { ConnectedPeer } from '../../transport/stream-manager.js';
import type { BackDeps } from './back.js';
import { type BackBook, type BackSession, type BackWay, RELAYED } from './back-book.js';

/** The exit's end of a session's path: by the relay port, or to the client itself. Runs in the session's turn. */
export class BackPath {
  constructor(
    private readonly deps: BackDeps,
    private readonly book: BackBook,
  ) {}

  async update(origin: PeerId, request: UpdateSessionRequest): Promise<UpdateSessionResponse> {
    const one = this.book.get(request.session);
    if (one === undefined) throw new VpndError('no-session', `session ${request.session} is not known here`);
    if (one.origin !== origin) throw new VpndError('forbidden', 'this session was opened by another supernode');
    if (request.generation <= one.asked) {
      throw new VpndError('stale-generation', `generation ${request.generation} is not newer than ${one.asked}`);
    }
    const relay = this.#relayOf(one);
    if (relay === undefined) {
      throw new VpndError('no-path', 'this session has no relay here that it could leave or come back to');
    }
    const asked = { ...one, asked: request.generation };
    if (request.path !== 'direct') return this.#toRelay(asked, relay, request.path);
    return request.settled ? this.#settle(asked, relay) : this.#toDirect(asked, request.clientEndpoint);
  }

  /** An exit that is back with a session, or without it, is told what it missed. Never rejects. */
  async repair(peer: ConnectedPeer, session: SessionId, held: boolean): Promise<void> {
    const one = this.book.get(session);
    if (one === undefined || this.deps.streams().peer(peer.id) !== peer) return;
    const lease = this.#leaseOf(one);
    if (lease <= 0) return;
    try {
      let current = one;
      if (!held) {
        current = this.book.save({ ...one, generation: one.generation + 1 });
        await this.#command(current, current.setup);
        current = this.book.save({ ...current, way: current.way.kind === 'relay' ? RELAYED : untold(current.way) });
        if (current.setup.kemKey.length > 0) this.deps.keyLost?.(session, current.origin);
      }
      const relay = this.#relayOf(current);
      if (relay !== undefined && !isParked(current)) await this.deps.order(session, lease, relay);
      if (!current.way.told) await this.tellAgain(current);
    } catch (thrown) {
      this.deps.log.warn('could not repair a session at an exit', {
        session_id: session,
        code: toVpndError(thrown).code,
      });
    }
  }

  /** RELAY_UPDATE, where the way is another one than SETUP_EXIT says, or the exit may not know. */
  async tellAgain(one: BackSession): Promise<void> {
    const relay = this.#relayOf(one);
    const { way } = one;
    if (relay === undefined || (way.kind === 'relay' && way.told)) return;
    await this.#tell(one, way, way.kind === 'direct' ? toClient(way.client) : toPort(relay, 'relay'));
  }

  /** A renewal brings no relay back that the direct path has made idle; its lease goes on all the same. */
  parkedOr(one: BackSession, relay: RelaySetup): RelaySetup {
    return isParked(one) ? parked(relay) : relay;
  }

  async #toDirect(one: BackSession, client: Endpoint | undefined): Promise<UpdateSessionResponse> {
    if (client === undefined) throw new VpndError('bad-message', 'a direct path needs the client’s endpoint');
    if (this.deps.streams().peer(one.exit) === undefined) throw exitGone(one.exit);
    const exit = (await this.deps.relays()).find(({ port }) => port === one.port)?.learned;
    const again = { retryable: true };
    if (exit === undefined) throw new VpndError('no-path', 'the exit has not been heard on its relay port yet', again);
    if (familyOf(exit.ip) !== familyOf(client.ip)) {
      throw new VpndError('no-path', 'client and exit are reached over different address families', again);
    }
    await this.#tell(one, { kind: 'direct', told: false, client, exit, settled: false }, toClient(client), one.way);
    return { endpoint: exit };
  }

  async #toRelay(one: BackSession, relay: RelaySetup, path: Path): Promise<UpdateSessionResponse> {
    // On record first: where anything fails from here, the exit is told when it is back.
    const back = this.book.save({ ...one, way: { kind: 'relay', told: false } });
    const peer = this.deps.streams().peer(one.exit);
    if (peer === undefined) throw exitGone(one.exit);
    await this.deps.order(one.session, this.#leaseOf(one), relay);
    await this.#tell(back, back.way, toPort(relay, path));
    return { endpoint: { ip: relay.localIp, port: relay.port } };
  }

  async #settle(one: BackSession, relay: RelaySetup): Promise<UpdateSessionResponse> {
    const { way } = one;
    if (way.kind !== 'direct') throw new VpndError('no-path', 'this session is not direct');
    this.book.save({ ...one, way: { ...way, settled: true } });
    try {
      await this.deps.order(one.session, this.#leaseOf(one), parked(relay));
    } catch (thrown) {
      this.book.save({ ...one, way: { ...way, settled: false } });
      throw thrown;
    }
    return { endpoint: way.exit };
  }

  /** An order to the exit about its way, on record before and after. `before` is in force again where it is refused. */
  async #tell(one: BackSession, way: BackWay, order: RelayUpdate, before: BackWay = way): Promise<void> {
    const sent = this.book.save({ ...one, generation: one.generation + 1, way: untold(way) });
    try {
      await this.#command(sent, order);
    } catch (thrown) {
      this.book.save({ ...sent, way: untold(before) });
      throw thrown;
    }
    this.book.save({ ...sent, way: { ...way, told: true } });
  }

  async #command(one: BackSession, desired: RelayUpdate | BackSession['setup']): Promise<void> {
    const { random, streams } = this.deps;
    await streams().command(one.exit, newCommand(random, one.session, one.generation, this.#leaseOf(one), desired));
  }

  #leaseOf(one: BackSession): Millis {
    return ms(Math.max(0, since(one.leaseUntil, this.deps.clock.now())));
  }

  /** With the relay as it is to be now; without an exit to vouch for, nobody may send to it. */
  #relayOf({ exit, port, next, setup }: BackSession): RelaySetup | undefined {
    if (port === undefined || next === undefined || setup.endpoint === undefined) return undefined;
    const localIp = setup.endpoint.ip;
    const peer = this.deps.streams().peer(exit);
    const all = peer === undefined ? [] : this.deps.vouched(peer);
    const vouched = all.filter((ip) => familyOf(ip) === familyOf(localIp));
    return { kind: 'relay-setup', port, localIp, vouched, next };
  }
}

const isParked = ({ way }: BackSession): boolean => way.kind === 'direct' && way.settled;
const parked = (relay: RelaySetup): RelaySetup => ({ ...relay, vouched: [] });
const untold = (way: BackWay): BackWay => ({ ...way, told: false });
const exitGone = (exit: PeerId): VpndError =>
  new VpndError('exit-gone', `exit ${shortId(exit)} is not connected`, { retryable: true });

const toClient = (endpoint: Endpoint): RelayUpdate => ({
  kind: 'relay-update',
  endpoint,
  keepalive: KEEPALIVE_S,
  path: 'direct',
});
const toPort = (relay: RelaySetup, path: Path): RelayUpdate => ({
  kind: 'relay-update',
  endpoint: { ip: relay.localIp, port: relay.port },
  keepalive: KEEPALIVE_S,
  path,
});
