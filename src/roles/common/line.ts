import type { Clock } from '../../core/ports/clock.js';
import type { Identity } from '../../core/ports/crypto.js';
import type { Datagrams } from '../../core/ports/datagrams.js';
import type { Log } from '../../core/ports/log.js';
import type { Random } from '../../core/ports/random.js';
import type { Bytes } from '../../model/bytes.js';
import type { SupernodeInfo } from '../../model/directory.js';
import { type PeerId, shortId } from '../../model/ids.js';
import { type Millis, minutes, ms, seconds } from '../../model/time.js';
import type { Upstream } from './upstream.js';
import { vouchForUdp } from './vouching.js';

/** One of a node's streams to its supervisors. */
export interface Line {
  readonly index: 0 | 1;
  readonly upstream: Upstream;
  /** Where it is connected, or being dialled to; undefined for base, and while it goes nowhere. */
  supervisor(): PeerId | undefined;
  isUp(): boolean;
  /**
   * Show the supernode again where this node's UDP comes from (its NAT mapping may have changed); at most twice a
   * second. Resolves with whether UDP got through, which goes to `udp()` too; true where the supernode has no reflector
   * to tell, false without a stream.
   */
  vouch(): Promise<boolean>;
  /** Undefined before it was tried at this supernode. */
  udp(): 'through' | 'blocked' | undefined;
}

/** The shortest time between two vouchings. */
const VOUCH_INTERVAL: Millis = ms(500);
/**
 * How often UDP is vouched for again at a supernode with sessions of this node: a NAT may begin to send UDP from
 * another address while the stream stays on the old one, which shows in nothing else at an exit without traffic.
 */
const VOUCH_AGAIN: Millis = minutes(2);
/** While no UDP gets through: tunnels are carried inside the stream, and want to leave it. */
const VOUCH_WHILE_BLOCKED: Millis = seconds(20);

export interface PeerLineDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly identity: Identity;
  /** Undefined where the node sends no UDP. */
  readonly datagrams: Datagrams | undefined;
  readonly supernode: (id: PeerId) => SupernodeInfo | undefined;
  readonly changed: () => void;
}

interface Vouching {
  readonly done: Promise<boolean>;
  cancel(): void;
}

export class PeerLine implements Line {
  #running = false;
  #udp: { readonly at: PeerId; readonly state: 'through' | 'blocked' } | undefined;
  #welcome: { readonly at: PeerId; readonly probeToken: Bytes } | undefined;
  /** Never the same twice on one stream: the reflector takes a copy for what it is. */
  #counter = 0;
  #vouched: Millis | undefined;
  #next: Vouching | undefined;

  constructor(
    readonly index: 0 | 1,
    readonly upstream: Upstream,
    private readonly deps: PeerLineDeps,
  ) {}

  /** Whether it is to be connected at all. */
  get running(): boolean {
    return this.#running;
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.upstream.start();
  }

  rest(): void {
    this.#halt();
    this.upstream.rest();
  }

  async stop(): Promise<void> {
    this.#halt();
    await this.upstream.stop();
  }

  supervisor(): PeerId | undefined {
    const { expect } = this.upstream.status().supervisor ?? {};
    return expect?.kind === 'supernode' ? expect.id : undefined;
  }

  isUp(): boolean {
    return this.upstream.status().state === 'up';
  }

  udp(): 'through' | 'blocked' | undefined {
    return this.#udp !== undefined && this.#udp.at === this.supervisor() ? this.#udp.state : undefined;
  }

  /** Its stream is authenticated at this supernode. */
  welcomed(at: PeerId | undefined, probeToken: Bytes): void {
    this.#welcome = at && { at, probeToken };
    void this.vouch();
  }

  /** @param inUse whether sessions of this node hang on its supernode */
  lookAfterUdp(inUse: boolean): void {
    if (this.#vouched === undefined || !this.isUp()) return;
    const every = this.udp() === 'blocked' ? VOUCH_WHILE_BLOCKED : inUse ? VOUCH_AGAIN : undefined;
    if (every !== undefined && this.deps.clock.monotonic() - this.#vouched >= every) void this.vouch();
  }

  vouch(): Promise<boolean> {
    this.#next ??= this.#soon();
    return this.#next.done;
  }

  /** One that has not begun yet shows what is true when it does, so whoever asks until then shares it. */
  #soon(): Vouching {
    const { clock } = this.deps;
    const wait = this.#vouched === undefined ? 0 : this.#vouched + VOUCH_INTERVAL - clock.monotonic();
    let cancel = () => {};
    const done = new Promise<boolean>((resolve) => {
      const begin = () => {
        this.#next = undefined;
        this.#vouched = clock.monotonic();
        resolve(this.#vouch());
      };
      if (wait <= 0) {
        queueMicrotask(begin);
        return;
      }
      const cancelTimer = clock.after(ms(wait), begin);
      cancel = () => {
        cancelTimer();
        resolve(false);
      };
    });
    return { done, cancel: () => cancel() };
  }

  async #vouch(): Promise<boolean> {
    const { datagrams, random, identity } = this.deps;
    const welcome = this.#welcome;
    if (welcome === undefined || !this.isUp()) return false;
    const supernode = this.deps.supernode(welcome.at);
    if (supernode?.probePort === undefined || supernode.relayIps.length === 0 || datagrams === undefined) return true;
    const reflector = { ips: supernode.relayIps, port: supernode.probePort };
    const counter = () => ++this.#counter;
    const through = await vouchForUdp({ datagrams, random }, identity, welcome.probeToken, counter, reflector);
    // An answer lost with its stream says nothing about the network.
    if (this.#welcome === welcome && this.isUp()) this.#learn(welcome.at, through ? 'through' : 'blocked');
    return through;
  }

  #learn(at: PeerId, state: 'through' | 'blocked'): void {
    const before = this.udp();
    this.#udp = { at, state };
    if (before === state) return;
    const id = shortId(at);
    if (state === 'blocked') {
      const text = `no UDP reaches supernode ${id}: the network here blocks it, and WireGuard needs it`;
      this.deps.log.warn(text, { supernode_id: at });
    } else if (before === 'blocked') {
      this.deps.log.info(`UDP reaches supernode ${id} again`, { supernode_id: at });
    }
    this.deps.changed();
  }

  #halt(): void {
    this.#running = false;
    this.#next?.cancel();
    this.#next = undefined;
  }
}
