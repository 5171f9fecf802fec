import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Endpoint } from '../../model/address.js';
import type { VpndError } from '../../model/errors.js';
import type { Millis } from '../../model/time.js';
import { type Carrier, FramedStream } from '../framed-stream.js';

/** How bytes get from one host of a link to the other. */
export interface Path {
  /** One way; asked for every message. */
  latency(): Millis;
  /** Whether anything gets through at present. */
  open(): boolean;
  /** Extra delays of the copies of a message that arrive, out of order with others; `[]` loses it. */
  meddle?(): readonly Millis[] | undefined;
}

type Parcel = () => void;

/** One direction of a connection: in order, held back while the path is cut (TCP sends again), then delivered. */
export class Pipe {
  readonly #clock: Clock;
  readonly #path: Path;
  readonly #queue: { readonly due: number; readonly deliver: Parcel }[] = [];
  #cancel: (() => void) | undefined;
  #lastDue = 0;
  #closed = false;

  constructor(clock: Clock, path: Path) {
    this.#clock = clock;
    this.#path = path;
  }

  push(deliver: Parcel): void {
    if (this.#closed) return;
    this.#lastDue = Math.max(this.#lastDue, this.#clock.monotonic() + this.#path.latency());
    this.#queue.push({ due: this.#lastDue, deliver });
    this.pump();
  }

  /** A message that the fault hook may lose, delay or double; answers how many copies are on their way. */
  pushMeddled(deliver: Parcel): number {
    const delays = this.#path.meddle?.() ?? [0];
    for (const delay of delays) {
      if (delay === 0) this.push(deliver);
      else this.#clock.after((this.#path.latency() + delay) as Millis, () => this.#closed || deliver());
    }
    return delays.length;
  }

  /** Deliver what is due; asked for when the path opens again. */
  pump(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    if (this.#closed || !this.#path.open()) return;
    const now = this.#clock.monotonic();
    while (this.#queue[0] !== undefined && this.#queue[0].due <= now) this.#queue.shift()?.deliver();
    const next = this.#queue[0];
    if (next !== undefined) this.#cancel = this.#clock.after((next.due - now) as Millis, () => this.pump());
  }

  /** Nothing arrives any more. */
  close(): void {
    this.#closed = true;
    this.#cancel?.();
    this.#queue.length = 0;
  }
}

/** One end of a link. */
class Side implements Carrier {
  readonly stream: FramedStream;
  readonly #role: 'client' | 'server';
  readonly #out: Pipe;
  readonly #goodbye: (side: Side, error: VpndError | undefined) => void;
  readonly #unread: Parcel[] = [];
  #reading = false;
  /** The process of this end is gone: nothing in it may run any more. */
  dead = false;
  other: Side | undefined;

  constructor(
    role: 'client' | 'server',
    remote: Endpoint,
    out: Pipe,
    log: Log,
    goodbye: (side: Side, error: VpndError | undefined) => void,
  ) {
    this.#role = role;
    this.#out = out;
    this.#goodbye = goodbye;
    this.stream = new FramedStream(remote, this, log);
  }

  get role(): 'client' | 'server' {
    return this.#role;
  }

  write(bytes: Uint8Array, taken: () => void): void {
    let waiting = true;
    const once = () => {
      if (waiting) taken();
      waiting = false;
    };
    const copies = this.#out.pushMeddled(() =>
      this.other?.deliver(() => {
        once();
        this.other?.stream.arrived(bytes);
      }),
    );
    if (copies === 0) once();
  }

  read(): void {
    if (this.#reading) return;
    queueMicrotask(() => {
      this.#reading = true;
      for (const parcel of this.#unread.splice(0)) this.deliver(parcel);
    });
  }

  finish(error: VpndError | undefined): void {
    this.#goodbye(this, error);
  }

  /** Something arrived. It waits until somebody reads. */
  deliver(parcel: Parcel): void {
    if (this.dead) return;
    if (this.#reading) parcel();
    else this.#unread.push(parcel);
  }
}

export interface LinkEnds {
  readonly client: Endpoint;
  readonly server: Endpoint;
}

export interface LinkDeps {
  readonly clock: Clock;
  readonly up: Path;
  readonly down: Path;
  readonly clientLog: Log;
  readonly serverLog: Log;
  /** What a client is told when its connection breaks. */
  readonly broken: () => VpndError;
  /** An error as it arrives at the other side. */
  readonly travelled: (error: VpndError) => VpndError;
  readonly onClose: (link: Link) => void;
}

/** One control stream between two hosts, on a connection of its own. */
export class Link {
  readonly ends: LinkEnds;
  readonly #deps: LinkDeps;
  readonly #up: Pipe;
  readonly #down: Pipe;
  readonly #client: Side;
  readonly #server: Side;
  #silence: (() => void) | undefined;
  /** As `pathChanged` last said. */
  open = true;

  constructor(ends: LinkEnds, deps: LinkDeps) {
    this.ends = ends;
    this.#deps = deps;
    this.#up = new Pipe(deps.clock, deps.up);
    this.#down = new Pipe(deps.clock, deps.down);
    const goodbye = (side: Side, error: VpndError | undefined) => this.#goodbye(side, error);
    this.#client = new Side('client', ends.server, this.#up, deps.clientLog, goodbye);
    this.#server = new Side('server', ends.client, this.#down, deps.serverLog, goodbye);
    this.#client.other = this.#server;
    this.#server.other = this.#client;
  }

  get clientStream(): FramedStream {
    return this.#client.stream;
  }

  get serverStream(): FramedStream {
    return this.#server.stream;
  }

  /** The path between the hosts was cut or opened: held messages flow again, or after `patience` both sides give up. */
  pathChanged(open: boolean, patience: Millis): void {
    this.#silence?.();
    this.#silence = undefined;
    this.open = open;
    if (open) {
      this.#up.pump();
      this.#down.pump();
    } else {
      this.#silence = this.#deps.clock.after(patience, () => this.break());
    }
  }

  /** Both sides learn now that the connection is gone. */
  break(): void {
    this.#close();
    this.#lose(this.#client);
    this.#lose(this.#server);
  }

  /** The process at one end is gone: nothing runs there any more. The other end learns it by a reset, if one is sent. */
  abandon(end: 'client' | 'server', reset: boolean): void {
    const [gone, left, pipe] =
      end === 'client' ? [this.#client, this.#server, this.#up] : [this.#server, this.#client, this.#down];
    gone.dead = true;
    if (reset)
      pipe.push(() => {
        this.#close();
        this.#lose(left);
      });
  }

  #goodbye(side: Side, error: VpndError | undefined): void {
    const pipe = side.role === 'client' ? this.#up : this.#down;
    const other = side.role === 'client' ? this.#server : this.#client;
    const told = error === undefined ? undefined : this.#deps.travelled(error);
    pipe.push(() => {
      // A reset, which is all a client has to say why, overtakes what has not been read.
      if (side.role === 'client' && told !== undefined) {
        this.#lose(other);
        this.#close();
        return;
      }
      other.deliver(() => {
        other.stream.ended(told === undefined ? { by: 'remote' } : { by: 'remote', error: told });
        this.#close();
      });
    });
  }

  #lose(side: Side): void {
    if (side.dead) return;
    if (side.role === 'client') side.stream.ended({ by: 'lost', error: this.#deps.broken() });
    else side.stream.ended({ by: 'lost' });
  }

  #close(): void {
    this.#silence?.();
    this.#up.close();
    this.#down.close();
    this.#deps.onClose(this);
  }
}
