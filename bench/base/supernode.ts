import { createSecureContext } from 'node:tls';
import { makeAuthRequest } from '../../src/core/auth.js';
import type { TlsIdentity } from '../../src/core/ports/network.js';
import type { Random } from '../../src/core/ports/random.js';
import { certificateTools } from '../../src/identity/ca.js';
import type { SodiumCrypto } from '../../src/identity/sodium.js';
import { statements } from '../../src/identity/statements.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import { NO_LOAD, type SupernodeInfo } from '../../src/model/directory.js';
import type { Signed } from '../../src/model/membership.js';
import type { ControlMessage, News } from '../../src/model/messages.js';
import { days, hours, instantOf, minutes, ms, plus } from '../../src/model/time.js';
import { openRawStream, type RawStream } from '../load/raw-stream.js';
import type { Filled, KnownMember } from './fill.js';

/** What all simulated supernodes of a process share. */
export interface Issued {
  readonly member: KnownMember;
  readonly membership: Signed;
  readonly tls: TlsIdentity;
  readonly info: SupernodeInfo;
}

const CAPACITY = 10_000;

/** What base has given each supernode at its enrolment. One TLS key for all of them: making a thousand is not what is measured. */
export async function issue(filled: Filled, crypto: SodiumCrypto): Promise<readonly Issued[]> {
  const now = instantOf(Date.now());
  const { csr, privateKey } = await certificateTools().newRequest();
  const { signMembership } = statements(crypto);
  return Promise.all(
    filled.supernodes.map(async (member, n): Promise<Issued> => {
      const { id } = member.identity;
      const subject = { kind: 'supernode', id } as const;
      const membership = signMembership(filled.base, {
        peer: id,
        roles: ['supernode'],
        region: member.region,
        pool: '',
        notBefore: plus(now, ms(-minutes(5))),
        notAfter: plus(now, days(1)),
        epoch: 0,
      });
      const certificate = await filled.authority.issue(csr, subject, now, hours(24));
      const ip = `192.0.${2 + Math.floor(n / 250)}.${1 + (n % 250)}` as IpAddress;
      const port = 443 as Port;
      const info: SupernodeInfo = {
        id,
        region: member.region,
        addresses: [{ host: ip, port }],
        relayIps: [ip],
        probePort: 3478 as Port,
        draining: false,
        load: { ...NO_LOAD, sessions: n % 997, sessionCapacity: CAPACITY, streams: 900 },
      };
      return { member, membership, tls: { certificate, privateKey }, info };
    }),
  );
}

/** A supernode as far as base sees one: its control stream. */
export class SupernodeStream {
  readonly #raw: RawStream;
  readonly #pongs = new Map<number, () => void>();
  #pings = 0;
  /** Bytes of its welcome and of news, heartbeats not among them; and how often the news was the directory. */
  bytes = 0;
  directories = 0;
  ended = false;
  onNews: ((news: News, bytes: number) => void) | undefined;

  private constructor(
    raw: RawStream,
    readonly issued: Issued,
  ) {
    this.#raw = raw;
  }

  static async join(
    issued: Issued,
    target: { readonly port: number; readonly from: string; readonly ca: string },
    random: Random,
  ): Promise<SupernodeStream> {
    const { certificate: cert, privateKey: key } = issued.tls;
    const raw = await openRawStream({
      host: '127.0.0.1',
      port: target.port as Port,
      trust: createSecureContext({ ca: target.ca, cert, key, minVersion: 'TLSv1.3' }),
      from: target.from as IpAddress,
    });
    const stream = new SupernodeStream(raw, issued);
    await stream.#enter(random);
    return stream;
  }

  /** Resolves with base's answer. */
  ping(): Promise<void> {
    const id = ++this.#pings;
    return new Promise((resolve) => {
      this.#pongs.set(id, resolve);
      this.#raw.stream.send({ kind: 'ping', id, load: this.issued.info.load });
    });
  }

  say(news: News): void {
    this.#raw.stream.send({ kind: 'event', news });
  }

  close(): void {
    this.#raw.stream.end();
  }

  #enter(random: Random): Promise<void> {
    const { member, membership, info } = this.issued;
    return new Promise((resolve, reject) => {
      this.#raw.stream.listen({
        message: (message, bytes) => {
          if (message.kind === 'auth-response' || message.kind === 'event') this.bytes += bytes;
          if (message.kind === 'auth-response') resolve();
          else this.#message(message, bytes);
        },
        ended: (end) => {
          this.ended = true;
          reject(end.error ?? new Error(`base ended the stream (${end.by})`));
        },
      });
      const self = {
        membership,
        role: 'supernode',
        region: member.region,
        wireguardKey: undefined,
        capabilities: {
          software: 'vpnd-bench',
          ipv6: false,
          publicEndpoint: undefined,
          country: undefined,
          maxMbps: 0,
          sessionCapacity: CAPACITY,
        },
        sessions: [],
        supernode: info,
      } as const;
      const server = { id: undefined, challenge: this.#raw.challenge, serverKeyHash: this.#raw.serverKeyHash };
      this.#raw.stream.send(makeAuthRequest(member.identity, self, server, instantOf(Date.now()), random));
    });
  }

  #message(message: ControlMessage, bytes: number): void {
    if (message.kind === 'ping') {
      this.#raw.stream.send({ kind: 'pong', id: message.id });
    } else if (message.kind === 'pong') {
      this.#pongs.get(message.id)?.();
      this.#pongs.delete(message.id);
    } else if (message.kind === 'event') {
      if (message.news.kind === 'directory') this.directories += 1;
      this.onNews?.(message.news, bytes);
    }
  }
}
