import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Host, Spawned } from '../../chaos/lab/index.js';
import type { Member, OverlayKeys } from '../load/members.js';
import type { Orders, Verbs } from '../load/streams.js';

const PROGRAM = fileURLToPath(new URL('../load/streams.js', import.meta.url));
const START_LIMIT_MS = 60_000;

/** Streams from one address: below what a supernode lets one address set up at once (60). */
const PER_ADDRESS = 50;
const ADDRESSES_PER_NET = 250;
/** RFC 2544 keeps it for benchmarks. All of it is the supernode's own host's here. */
const NET = '198.18.0.0/16';

/** An address for every fifty streams, as households and carriers have theirs. */
const addresses = (first: number, streams: number): readonly string[] =>
  Array.from({ length: Math.ceil(streams / PER_ADDRESS) }, (_, i) => {
    const n = first + i;
    return `198.18.${Math.floor(n / ADDRESSES_PER_NET)}.${1 + (n % ADDRESSES_PER_NET)}`;
  });

/** One load generator, a process of its own. */
export class Generator {
  readonly process: Spawned;
  readonly streams: number;
  readonly #socket: Socket;
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #orders = 0;

  constructor(process: Spawned, streams: number, socket: Socket) {
    this.process = process;
    this.streams = streams;
    this.#socket = socket;
    createInterface({ input: socket }).on('line', (line) => {
      const answer = JSON.parse(line) as { id: number; result?: unknown; error?: string };
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if (answer.error === undefined) waiting?.resolve(answer.result);
      else waiting?.reject(new Error(answer.error));
    });
    socket.once('close', () => {
      for (const one of this.#waiting.values()) one.reject(new Error('a load generator ended'));
    });
  }

  /** Rejects with what the generator says, or when it ends. */
  tell<V extends keyof Verbs>(verb: V, of: Verbs[V][0]): Promise<Verbs[V][1]> {
    const id = ++this.#orders;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve: (value) => resolve(value as Verbs[V][1]), reject });
      this.#socket.write(`${JSON.stringify({ id, verb, of })}\n`);
    });
  }

  async end(): Promise<void> {
    this.#socket.destroy();
    await this.process.stop();
  }
}

/** Several generators that share members among themselves evenly, in the order of the members. */
export async function startGenerators(
  host: Host,
  ip: string,
  keys: OverlayKeys,
  members: readonly Member[],
  options: { readonly processes: number; readonly region: string; readonly atOnce: number },
): Promise<readonly Generator[]> {
  const each = Math.ceil(members.length / options.processes);
  const shares = Array.from({ length: options.processes }, (_, i) => members.slice(i * each, (i + 1) * each));
  const perShare = Math.ceil(each / PER_ADDRESS);
  await host.ip(`route replace local ${NET} dev lo`);
  return Promise.all(
    shares.map(async (share, i) => {
      const control = join(host.directory, `generator-${i}.sock`);
      const orders: Orders = {
        host: ip,
        port: 443,
        region: options.region,
        keys,
        members: share,
        from: addresses(i * perShare, share.length),
        atOnce: options.atOnce,
        control,
      };
      const server = await listening(control);
      const process = host.spawn([globalThis.process.execPath, PROGRAM], { stdin: JSON.stringify(orders) });
      return new Generator(process, share.length, await connected(server, process));
    }),
  );
}

function listening(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(path, () => resolve(server));
  });
}

function connected(server: Server, process: Spawned): Promise<Socket> {
  return new Promise<Socket>((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`${why}:\n${process.lines('stderr').slice(-10).join('\n')}`));
    const limit = setTimeout(() => fail('a load generator did not start'), START_LIMIT_MS);
    server.once('connection', (socket) => {
      clearTimeout(limit);
      resolve(socket);
    });
    void process.exited.then(() => fail('a load generator ended'));
  }).finally(() => server.close());
}
