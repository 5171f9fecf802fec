import type { AbortSignalLike, Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { DialedStream, DialTarget, Network, ServeOptions, Server } from '../../core/ports/network.js';
import {
  type Endpoint,
  familyOf,
  formatHostPort,
  type HostPort,
  type IpAddress,
  type Port,
} from '../../model/address.js';
import { type Bytes, equalConstantTime } from '../../model/bytes.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { UnaryCalls, UnaryName } from '../../model/messages.js';
import type { Millis } from '../../model/time.js';
import { UNARY } from '../codec/unary.js';
import { describe, uriOf } from '../grpc/certificates.js';
import type { MemoryInternet } from '../memory-network.js';
import { type ReadCertificate, readChain } from './certificates.js';
import { MemoryServer } from './server.js';

interface Limits {
  readonly timeout: Millis;
  readonly signal?: AbortSignalLike;
}

/** Trips a packet makes before a control stream's challenge is there: TCP, TLS, the call. */
const DIAL_TRIPS = 6;
/** As for a call on a new connection. */
const CALL_TRIPS = 6;
/** TCP and TLS. */
const CA_TRIPS = 4;

/** One process on one machine of a MemoryInternet. */
export class MemoryHost implements Network {
  readonly #internet: MemoryInternet;
  readonly #ips: readonly IpAddress[];
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #servers = new Map<number, MemoryServer>();
  #alive = true;

  constructor(internet: MemoryInternet, ips: readonly IpAddress[], own: { clock: Clock; log: Log }) {
    this.#internet = internet;
    this.#ips = ips;
    this.#clock = own.clock;
    this.#log = own.log;
  }

  get alive(): boolean {
    return this.#alive;
  }

  has(ip: IpAddress): boolean {
    return this.#ips.includes(ip);
  }

  /** The process is gone: its promises never settle, its servers are closed. */
  die(): void {
    this.#alive = false;
    this.#servers.clear();
  }

  serverOn(port: number): MemoryServer | undefined {
    return this.#servers.get(port);
  }

  dialControl(target: DialTarget, options: Limits): Promise<DialedStream> {
    return this.#attempt(target.address, options, DIAL_TRIPS, ({ to, from, server }) => {
      const checked = this.#checked(target, server);
      const link = server.accept(from, to, {
        certificate: target.identity?.().certificate,
        log: this.#log,
        broken: () => unreachable(target.address, 'the connection was reset'),
      });
      return { stream: link.stream, challenge: link.challenge, serverKeyHash: checked.keyHash };
    });
  }

  async call<M extends UnaryName>(
    target: DialTarget,
    name: M,
    request: UnaryCalls[M][0],
    options: Limits,
  ): Promise<UnaryCalls[M][1]> {
    const abort = new AbortController();
    try {
      const bytes = await this.#attempt(target.address, options, CALL_TRIPS, ({ from, server }) => {
        this.#checked(target, server);
        const asked = UNARY[name].request.encode(request);
        return server.answer(name, asked, {
          remote: from.ip,
          certified: server.certified(target.identity?.().certificate),
          signal: abort.signal,
        });
      });
      const parsed = UNARY[name].response.decode(bytes);
      if (!parsed.ok) throw parsed.error;
      return parsed.value;
    } catch (thrown) {
      abort.abort(thrown);
      throw thrown;
    }
  }

  fetchCa(address: HostPort, caKeyHash: Bytes | undefined, options: { timeout: Millis }): Promise<string> {
    return this.#attempt(address, options, CA_TRIPS, ({ server }) => {
      const [leaf] = server.chain;
      const found = server.chain.find((certificate) =>
        caKeyHash === undefined
          ? certificate !== leaf && leaf?.issuedBy(certificate)
          : equalConstantTime(certificate.keyHash, caKeyHash),
      );
      if (found === undefined)
        throw new VpndError('wrong-ca', `${formatHostPort(address)} is not of the overlay that the token is for`);
      return found.text;
    });
  }

  async serve(options: ServeOptions): Promise<Server> {
    const { host, port } = options.listen;
    const own = this.#ips.find((ip) => ip === host);
    if (own === undefined && host !== '0.0.0.0' && host !== '::')
      throw new VpndError('bad-config', `${formatHostPort(options.listen)}: ${host} is not an address of this machine`);
    const chosen = port === (0 as Port) ? this.#freePort() : port;
    if (this.#servers.has(chosen))
      throw new VpndError('port-in-use', `${formatHostPort(options.listen)} is in use by another process`);
    const address: Endpoint = { ip: own ?? (host as IpAddress), port: chosen };
    const server = new MemoryServer(options, address, {
      internet: this.#internet,
      clock: this.#clock,
      log: this.#log,
      freed: () => this.#servers.delete(chosen),
    });
    this.#servers.set(chosen, server);
    return server;
  }

  async close(): Promise<void> {}

  /** One exchange that takes so many one-way trips: the far host does `there` on the last but one. */
  #attempt<T>(
    address: HostPort,
    { timeout, signal }: Limits,
    trips: number,
    there: (met: { to: Endpoint; from: Endpoint; server: MemoryServer }) => T | Promise<T>,
  ): Promise<T> {
    const internet = this.#internet;
    return new Promise((resolve, reject) => {
      const cancels: (() => void)[] = [];
      let over = false;
      const settle = (act: () => void) => {
        if (over) return;
        over = true;
        for (const cancel of cancels) cancel();
        signal?.removeEventListener('abort', onAbort);
        // A dead process learns nothing.
        if (this.#alive) act();
      };
      const fail = (error: VpndError) => settle(() => reject(error));
      const onAbort = () => {
        const { reason } = signal as AbortSignalLike;
        fail(
          reason instanceof VpndError ? reason : new VpndError('closed', 'the attempt was given up', { cause: reason }),
        );
      };
      if (signal?.aborted) return onAbort();
      signal?.addEventListener('abort', onAbort);
      let to: IpAddress;
      try {
        to = internet.resolve(address);
      } catch (thrown) {
        return fail(toVpndError(thrown));
      }
      const from = this.#sourceFor(to);
      cancels.push(
        this.#clock.after(timeout, () =>
          fail(
            new VpndError('timeout', `${formatHostPort(address)} did not answer within ${timeout} ms`, {
              retryable: true,
            }),
          ),
        ),
      );
      /** A packet that the path loses is never heard of again; the deadline ends the attempt. */
      const trip = (a: IpAddress, b: IpAddress, count: number, then: () => void) => {
        const arrive = () => {
          if (internet.open(a, b) && !over) then();
        };
        cancels.push(internet.clock.after((internet.latency(a, b) * count) as Millis, arrive));
      };
      const back = (act: () => void) => trip(to, from.ip, 1, () => settle(act));
      trip(from.ip, to, trips - 1, () => {
        const host = internet.at(to);
        const server = host?.serverOn(address.port);
        if (host === undefined || server === undefined) {
          back(() => reject(unreachable(address, 'nothing listens there (connection refused)')));
          return;
        }
        const answer = (act: () => void) =>
          back(host.alive ? act : () => reject(unreachable(address, 'the connection was reset')));
        Promise.resolve()
          .then(() => there({ to: { ip: to, port: address.port }, from, server }))
          .then(
            (value) => answer(() => resolve(value)),
            (thrown) => answer(() => reject(toVpndError(thrown))),
          );
      });
    });
  }

  #sourceFor(to: IpAddress): Endpoint {
    const ip = this.#ips.find((own) => familyOf(own) === familyOf(to)) ?? (this.#ips[0] as IpAddress);
    return { ip, port: (32_768 + Math.floor(this.#internet.random.fraction() * 28_000)) as Port };
  }

  #freePort(): Port {
    let port = 40_000;
    while (this.#servers.has(port)) port++;
    return port as Port;
  }

  /** The server's certificate, held to what a dialler insists on. Throws VpndError `wrong-ca`, `clock-skew`. */
  #checked(target: DialTarget, server: MemoryServer): ReadCertificate {
    const where = `${describe(target.expect)} at ${formatHostPort(target.address)}`;
    const [leaf] = server.chain;
    if (leaf === undefined || !readChain(target.ca).some((ca) => leaf.issuedBy(ca)))
      throw new VpndError('wrong-ca', `${where}: its certificate is not of this overlay's CA`);
    const now = this.#clock.now();
    if (now < leaf.notBefore)
      throw new VpndError('clock-skew', `${where}: its certificate is not valid yet; check this machine's clock`);
    if (now > leaf.notAfter)
      throw new VpndError('clock-skew', `${where}: its certificate has expired; check this machine's clock`);
    if (!leaf.uris.includes(uriOf(target.expect)))
      throw new VpndError(
        'wrong-ca',
        `${where}: expected a certificate for ${uriOf(target.expect)}, but the one shown is for ${leaf.uris.join(', ')}`,
      );
    return leaf;
  }
}

const unreachable = (at: HostPort, reason: string): VpndError =>
  new VpndError('unreachable', `${formatHostPort(at)} cannot be reached: ${reason}`, { retryable: true });
