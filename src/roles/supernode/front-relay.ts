import type { Endpoint } from '../../model/address.js';
import { familyOf, sameEndpoint } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import type { RelayNext } from '../../model/command.js';
import { VpndError } from '../../model/errors.js';
import type { Signed } from '../../model/membership.js';
import type { OpenSessionRequest } from '../../model/messages.js';
import { type Millis, ms, since } from '../../model/time.js';
import type { ConnectedPeer } from '../../transport/stream-manager.js';
import type { FrontDeps } from './front.js';
import { type FrontBook, type FrontSession, hopOf, isParked } from './front-book.js';

/** The pre-shared key stays as it is. */
const NO_KEY = new Uint8Array(0);

/** The relays of a front session, as its own supernode orders them: its own, and the exit's supernode's. */
export class FrontRelay {
  constructor(
    private readonly deps: FrontDeps,
    private readonly book: FrontBook,
  ) {}

  /** Our own relay port; nobody may send to it while the session goes on without it. */
  async order(one: FrontSession, peer: ConnectedPeer, lease: Millis): Promise<void> {
    const { port, localIp, next } = one;
    if (port === undefined || localIp === undefined || next === undefined) return;
    const vouched = isParked(one) ? [] : this.deps.vouched(peer).filter((ip) => familyOf(ip) === familyOf(localIp));
    if (vouched.length === 0 && !isParked(one)) {
      throw new VpndError('no-path', `the client is not reached over IPv${familyOf(localIp)}`);
    }
    await this.deps.order(one.session, lease, { kind: 'relay-setup', port, localIp, vouched, next });
  }

  /** The exit's side, and then our own where that is not what it was: a supernode that lost the session takes it in anew. */
  async extend(one: FrontSession, peer: ConnectedPeer, lease: Millis): Promise<FrontSession> {
    return (await this.rekey(one, peer, NO_KEY, lease)).extended;
  }

  /** The same, with a fresh ML-KEM key of the client: the exit's offer has the ciphertext for it. */
  async rekey(
    one: FrontSession,
    peer: ConnectedPeer,
    kemKey: Bytes,
    lease: Millis,
  ): Promise<{ readonly extended: FrontSession; readonly offer: Signed }> {
    const { endpoint, offer } = await this.deps.openAt(one.supernode, this.openRequest(one, kemKey, lease));
    return { extended: await this.follow(one, peer, endpoint, lease), offer };
  }

  /** Send to the exit's side where it is now. */
  async follow(one: FrontSession, peer: ConnectedPeer, endpoint: Endpoint, lease: Millis): Promise<FrontSession> {
    const next = this.nextOf(one, endpoint);
    if (one.port === undefined || sameNext(one.next, next)) return one;
    const followed = this.book.save({ ...one, next });
    await this.order(followed, peer, lease);
    return followed;
  }

  nextOf({ supernode, exit }: Pick<FrontSession, 'supernode' | 'exit'>, endpoint: Endpoint): RelayNext {
    const paired = supernode === this.deps.self && exit !== this.deps.self;
    return paired ? { kind: 'pair', port: endpoint.port } : { kind: 'hop', endpoint };
  }

  openRequest(one: FrontSession, kemKey: Bytes, lease: Millis): OpenSessionRequest {
    return {
      session: one.session,
      generation: one.generation,
      exit: one.exit,
      clientKey: one.clientKey,
      kemKey,
      innerIpv4: one.inner.ipv4,
      innerIpv6: one.inner.ipv6,
      lease,
      path: one.path,
      previousHop: hopOf(one),
    };
  }

  leaseOf(one: FrontSession): Millis {
    return ms(Math.max(0, since(one.leaseUntil, this.deps.clock.now())));
  }
}

function sameNext(a: RelayNext | undefined, b: RelayNext): boolean {
  if (a?.kind === 'hop' && b.kind === 'hop') return sameEndpoint(a.endpoint, b.endpoint);
  return a?.kind === 'pair' && b.kind === 'pair' && a.port === b.port;
}
