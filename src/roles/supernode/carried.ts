import type { Clock } from '../../core/ports/clock.js';
import type { DataPlane } from '../../core/ports/dataplane.js';
import type { UdpSocket, UdpSockets } from '../../core/ports/udp-sockets.js';
import { type Endpoint, familyOf, type IpAddress, type Port, sameEndpoint } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import type { RelaySetup } from '../../model/command.js';
import { toVpndError } from '../../model/errors.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { ControlMessage } from '../../model/messages.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import { DatagramBatch } from '../common/datagram-batch.js';

/** Datagrams kept while a session's sockets are opened: WireGuard repeats a handshake only after five seconds. */
const FIRST_PACKETS = 16;
/** UDP counts as back once the client has used nothing else for this long. */
const SETTLED: Millis = seconds(1);
/** The relay port that faces the client, and where it leads: to another machine, or out of a port that faces the exit. */
export type Ways =
  | { readonly front: RelaySetup; readonly hop: Endpoint; readonly back: undefined }
  | { readonly front: RelaySetup; readonly hop: undefined; readonly back: RelaySetup };

export interface CarriedDeps {
  readonly clock: Clock;
  readonly udpSockets: UdpSockets;
  readonly dataplane: Pick<DataPlane, 'observeRelays'>;
  /** As `ControlStream.offer`, by peer. */
  readonly offer: (client: PeerId, message: ControlMessage) => boolean;
  /** Asked for with every packet: a renewal may name another hop, and other addresses that count. */
  readonly ways: () => Ways | undefined;
  readonly allowsDown: (packet: Bytes) => boolean;
}

/** One session in this process's hands. */
export class Carried {
  /** The kernel has given its ports up. */
  inHand = false;
  leaving = false;
  #front: UdpSocket | undefined;
  #back: UdpSocket | undefined;
  #closed = false;
  #isOpen = false;
  #waiting: Bytes[] = [];
  /** Where the client's last datagram came from. */
  #client: 'stream' | Endpoint = 'stream';
  /** The exit behind its NAT, where this supernode is the exit's, too. */
  #exit: Endpoint | undefined;
  #lastByStream: Millis;
  #last: Millis;
  readonly #batch: DatagramBatch;

  constructor(
    readonly session: SessionId,
    readonly client: PeerId,
    private readonly deps: CarriedDeps,
  ) {
    this.#lastByStream = deps.clock.monotonic();
    this.#last = this.#lastByStream;
    this.#batch = new DatagramBatch(deps.clock, (packets) => {
      deps.offer(client, { kind: 'datagrams', session, packets });
    });
  }

  get usesUdp(): boolean {
    return this.#client !== 'stream' && this.deps.clock.monotonic() - this.#lastByStream >= SETTLED;
  }

  get silentFor(): Millis {
    return ms(this.deps.clock.monotonic() - this.#last);
  }

  /** What was learned, by relay port. */
  learned(): ReadonlyMap<Port, Endpoint> {
    const ways = this.deps.ways();
    const found = new Map<Port, Endpoint>();
    if (ways !== undefined && this.#client !== 'stream') found.set(ways.front.port, this.#client);
    if (ways?.back !== undefined && this.#exit !== undefined) found.set(ways.back.port, this.#exit);
    return found;
  }

  /** While the kernel still has the ports, its rules take their packets before these sockets see any. */
  async bind(ways: Ways): Promise<void> {
    this.#front = await this.#bind(ways.front, (packet, from) => this.#atFront(packet, from));
    if (ways.back === undefined) return;
    const { port } = ways.back;
    this.#exit = (await this.deps.dataplane.observeRelays()).find((one) => one.port === port)?.learned;
    this.#back = await this.#bind(ways.back, (packet, from) => this.#atBack(packet, from));
  }

  opened(): void {
    this.#isOpen = true;
    for (const packet of this.#waiting.splice(0)) this.fromClient(packet);
  }

  close(): void {
    this.#closed = true;
    this.#isOpen = false;
    this.#waiting = [];
    this.#batch.clear();
    this.#front?.close();
    this.#back?.close();
  }

  heardByStream(): void {
    this.#client = 'stream';
    this.#lastByStream = this.deps.clock.monotonic();
    this.#last = this.#lastByStream;
  }

  /** To the exit, by the way that the relay port would take. */
  fromClient(packet: Bytes): void {
    if (!this.#isOpen) {
      if (!this.#closed && this.#waiting.length < FIRST_PACKETS) this.#waiting.push(packet);
      return;
    }
    const ways = this.deps.ways();
    if (ways?.hop !== undefined) this.#front?.send(packet, ways.hop);
    else if (this.#exit !== undefined) this.#back?.send(packet, this.#exit);
  }

  /** Exactly what the kernel's relay takes: the next hop's endpoint, and addresses that were vouched for. */
  #atFront(packet: Bytes, from: Endpoint): void {
    const ways = this.deps.ways();
    if (ways?.hop !== undefined && sameEndpoint(from, ways.hop)) this.#toClient(packet);
    else if (ways?.front.vouched.includes(from.ip)) {
      this.#client = from;
      this.#last = this.deps.clock.monotonic();
      this.fromClient(packet);
    }
  }

  #atBack(packet: Bytes, from: Endpoint): void {
    if (!this.deps.ways()?.back?.vouched.includes(from.ip)) return;
    this.#exit = from;
    this.#toClient(packet);
  }

  #toClient(packet: Bytes): void {
    if (!this.#isOpen || !this.deps.allowsDown(packet)) return;
    if (this.#client === 'stream') this.#batch.add(packet);
    else this.#front?.send(packet, this.#client);
  }

  async #bind(
    { localIp, port }: RelaySetup,
    listener: (packet: Bytes, from: Endpoint) => void,
  ): Promise<UdpSocket | undefined> {
    const at = (ip: IpAddress) => this.deps.udpSockets.bind({ ip, port }, listener);
    const socket = await at(localIp).catch((thrown: unknown) => {
      if (toVpndError(thrown).code !== 'dataplane') throw thrown;
      // Behind a provider's one-to-one NAT no interface has the public address.
      return at((familyOf(localIp) === 4 ? '0.0.0.0' : '::') as IpAddress);
    });
    // The session ended meanwhile.
    if (this.#closed) socket.close();
    return socket;
  }
}
