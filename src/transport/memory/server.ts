import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import { caOf, type ServeOptions, type Server, type TlsIdentity, type UnaryContext } from '../../core/ports/network.js';
import type { Endpoint, IpAddress } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import { type PeerId, parsePeerId } from '../../model/ids.js';
import type { UnaryCalls, UnaryName } from '../../model/messages.js';
import { CHALLENGE_BYTES } from '../codec/limits.js';
import { decodeError, encodeError } from '../codec/refusal.js';
import { UNARY } from '../codec/unary.js';
import type { MemoryInternet } from '../memory-network.js';
import { type ReadCertificate, readChain } from './certificates.js';
import { Link } from './link.js';

interface ServerDeps {
  readonly internet: MemoryInternet;
  readonly clock: Clock;
  readonly log: Log;
  readonly freed: () => void;
}

/** What a dialler brings. */
interface Arriving {
  readonly certificate: string | undefined;
  readonly log: Log;
  readonly broken: () => VpndError;
}

/** One listening server of a MemoryHost. */
export class MemoryServer implements Server {
  readonly address: Endpoint;
  readonly #internet: MemoryInternet;
  readonly #options: ServeOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #freed: () => void;
  readonly #links = new Set<Link>();
  #identity: TlsIdentity;
  #ca: string;

  constructor(options: ServeOptions, address: Endpoint, deps: ServerDeps) {
    this.#internet = deps.internet;
    this.#options = options;
    this.address = address;
    this.#clock = deps.clock;
    this.#log = deps.log;
    this.#freed = deps.freed;
    this.#identity = options.identity();
    this.#ca = caOf(options);
  }

  get chain(): readonly ReadCertificate[] {
    return readChain(this.#identity.certificate);
  }

  renewed(): void {
    this.#identity = this.#options.identity();
    this.#ca = caOf(this.#options);
  }

  async close(): Promise<void> {
    this.#freed();
    for (const link of [...this.#links])
      link.serverStream.end(new VpndError('closed', 'the server is shutting down', { retryable: true }));
  }

  certified(chain: string | undefined): PeerId | undefined {
    const [leaf] = chain === undefined ? [] : readChain(chain);
    const authorities = readChain(this.#ca);
    const now = this.#clock.now();
    const isOurs = leaf !== undefined && authorities.some((ca) => leaf.issuedBy(ca));
    if (!isOurs || now < leaf.notBefore || now > leaf.notAfter) return undefined;
    const [uri] = leaf.uris;
    const peer = uri?.startsWith('vpnd://supernode/') ? parsePeerId(uri.slice('vpnd://supernode/'.length)) : undefined;
    return peer?.ok ? peer.value : undefined;
  }

  /** A dialler got through to this server. */
  accept(from: Endpoint, to: Endpoint, arriving: Arriving): { stream: Link['clientStream']; challenge: Bytes } {
    const internet = this.#internet;
    const path = (a: IpAddress, b: IpAddress) => ({
      latency: () => internet.latency(a, b),
      open: () => internet.open(a, b),
      meddle: () => internet.meddle(a, b),
    });
    const link = new Link(
      { client: from, server: to },
      {
        clock: internet.clock,
        up: path(from.ip, to.ip),
        down: path(to.ip, from.ip),
        clientLog: arriving.log,
        serverLog: this.#log,
        broken: arriving.broken,
        travelled,
        onClose: (closed) => {
          this.#links.delete(closed);
          internet.closed(closed);
        },
      },
    );
    this.#links.add(link);
    internet.opened(link);
    const challenge = internet.random.bytes(CHALLENGE_BYTES);
    const [leaf] = this.chain;
    if (leaf === undefined) throw new VpndError('bad-config', 'a server without a certificate');
    try {
      this.#options.control({
        stream: link.serverStream,
        challenge,
        serverKeyHash: leaf.keyHash,
        certified: this.certified(arriving.certificate),
      });
    } catch (thrown) {
      this.#log.error('a control stream could not be accepted', { err: thrown });
      link.serverStream.end(toVpndError(thrown));
    }
    return { stream: link.clientStream, challenge };
  }

  async answer<M extends UnaryName>(name: M, bytes: Bytes, context: UnaryContext): Promise<Bytes> {
    const handler = this.#options.unary[name] as
      | ((request: UnaryCalls[M][0], context: UnaryContext) => Promise<UnaryCalls[M][1]>)
      | undefined;
    try {
      if (handler === undefined) throw new VpndError('not-supported', `${name} is not served here`);
      const request = UNARY[name].request.decode(bytes);
      if (!request.ok) throw request.error;
      return UNARY[name].response.encode(await handler(request.value, context));
    } catch (thrown) {
      const error = toVpndError(thrown);
      if (error.code === 'internal') this.#log.error('a call failed inside', { err: thrown, reason: name });
      throw travelled(error);
    }
  }
}

/** An error after its way over the wire: what broke inside travels without its text. */
function travelled(error: VpndError): VpndError {
  const told = error.code === 'internal' ? new VpndError('internal', 'internal error') : error;
  return decodeError(encodeError(told)) ?? told;
}
