/**
 * Load generator for message brokers, run as a process: many TLS 1.3 connections, each subscribed to a subject of its own. Reads a
 * `BrokerLoad` as JSON from standard input and prints `joined {...}`; at SIGUSR2 it asks, and prints `asked {...}`; at SIGTERM it ends.
 *
 * Asking is what the generator of vpnd's streams does: one message up a connection, and one that the server pushes down
 * the same; the time between them.
 */

import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import type { Asked, Joined } from '../../load/crowd.js';
import { openMqtt } from './mqtt.js';
import { openNats } from './nats.js';

export interface BrokerLoad {
  readonly protocol: 'nats' | 'mqtt';
  readonly host: string;
  readonly port: number;
  /** File with the certificate that is trusted. */
  readonly ca: string;
  readonly connections: number;
  readonly atOnce: number;
  readonly asks: { readonly times: number; readonly everyMs: number };
}

/** One connection to a broker. */
export interface BrokerConnection {
  /** Publishes to its own subject; resolves when that comes back. */
  ask(): Promise<void>;
  /** What a client sends so as not to be taken for gone. */
  beat(): void;
}

/** As vpnd's streams have it. */
export const BEAT_SECONDS = 10;

const load = JSON.parse(await text(process.stdin)) as BrokerLoad;
const open = load.protocol === 'nats' ? openNats : openMqtt;
const ca = readFileSync(load.ca);
const connections: BrokerConnection[] = [];

process.on('SIGUSR2', () => void ask());
process.on('SIGTERM', () => process.exit(0));

const began = performance.now();
let next = 0;
const worker = async () => {
  while (next < load.connections) connections.push(await open({ ...load, ca, id: `c${next++}` }));
};
await Promise.all(Array.from({ length: load.atOnce }, worker));
say('joined', { streams: connections.length, seconds: (performance.now() - began) / 1000 } satisfies Joined);

for (const [i, one] of connections.entries()) {
  // Beginning somewhere within the first interval.
  const first = (i * BEAT_SECONDS * 1000) / connections.length;
  setTimeout(() => setInterval(() => one.beat(), BEAT_SECONDS * 1000), first);
}

async function ask(): Promise<void> {
  const { times, everyMs } = load.asks;
  const latenciesMs: number[] = [];
  const start = performance.now();
  const under: Promise<void>[] = [];
  for (let n = 0; n < times; n++) {
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, start + n * everyMs - performance.now())));
    const one = connections[(n * 7919) % connections.length];
    const sent = performance.now();
    if (one !== undefined) under.push(one.ask().then(() => void latenciesMs.push(performance.now() - sent)));
  }
  await Promise.all(under);
  say('asked', { latenciesMs, seconds: (performance.now() - start) / 1000, failed: 0 } satisfies Asked);
}

function say(what: string, data: object): void {
  console.log(`${what} ${JSON.stringify(data)}`);
}
