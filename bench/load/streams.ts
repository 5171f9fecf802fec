/**
 * Load generator: holds many authenticated control streams to one supernode, each with an identity, a membership, a TLS
 * connection and heartbeats of its own. Reads a `Load` as JSON from standard input, prints `joined {...}` once all are
 * up, and at SIGTERM `left {...}`. Exit status 1 when a stream was lost meanwhile.
 */
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { makeAuthRequest } from '../../src/core/auth.js';
import { openSodium } from '../../src/identity/sodium.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import type { AuthResponse } from '../../src/model/messages.js';
import { instantOf } from '../../src/model/time.js';
import { bytesOf, clientOf, type Member, type OverlayKeys } from './members.js';
import { openRawStream } from './raw-stream.js';

export interface Load {
  readonly host: string;
  readonly port: number;
  readonly region: string;
  readonly keys: OverlayKeys;
  readonly members: readonly Member[];
  /** Addresses to connect from, in turn: a supernode limits how often one address may come. */
  readonly from: readonly string[];
  /** Streams that are set up at the same time. */
  readonly atOnce: number;
}

export interface Joined {
  readonly streams: number;
  readonly seconds: number;
}

export interface Left {
  readonly lost: number;
  readonly pongs: number;
  readonly pings: number;
}

const { crypto, random } = await openSodium();
const load = JSON.parse(await text(process.stdin)) as Load;
const count = { lost: 0, pongs: 0, pings: 0 };
let leaving = false;

process.once('SIGTERM', () => {
  leaving = true;
  say('left', count satisfies Left);
  process.exit(count.lost === 0 ? 0 : 1);
});

const started = performance.now();
const waiting = load.members.map((member, i) => ({ member, from: load.from[i % load.from.length] ?? load.host }));
const workers = Array.from({ length: load.atOnce }, async () => {
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await join(next.member, next.from);
});
await Promise.all(workers);
say('joined', { streams: load.members.length, seconds: (performance.now() - started) / 1000 } satisfies Joined);

async function join(member: Member, from: string): Promise<void> {
  const { stream, challenge, serverKeyHash } = await openRawStream({
    host: load.host,
    port: load.port as Port,
    ca: load.keys.ca,
    from: from as IpAddress,
  });
  const identity = crypto.identityFromSeed(bytesOf(member.seed));
  const self = clientOf(member, load.region, 'vpnd-bench');
  const server = { id: load.keys.supernode, challenge, serverKeyHash };
  const welcome = await new Promise<AuthResponse>((resolve, reject) => {
    let up = false;
    stream.listen({
      message: (message) => {
        if (message.kind === 'auth-response') {
          up = true;
          resolve(message);
        } else if (message.kind === 'ping') {
          count.pongs += 1;
          stream.send({ kind: 'pong', id: message.id });
        }
      },
      ended: (end) => {
        if (up && !leaving) count.lost += 1;
        reject(end.error ?? new Error('the supernode ended the stream'));
      },
    });
    stream.send(makeAuthRequest(identity, self, server, instantOf(Date.now()), random));
  });
  void heartbeat(welcome.pingInterval, () => stream.send({ kind: 'ping', id: ++count.pings, load: undefined }));
}

/** As a peer does: at the interval it was told, beginning somewhere within the first. */
async function heartbeat(interval: number, beat: () => void): Promise<void> {
  await pause(interval * random.fraction());
  for (;;) {
    beat();
    await pause(interval);
  }
}

function say(what: string, data: object): void {
  console.log(`${what} ${JSON.stringify(data)}`);
}
