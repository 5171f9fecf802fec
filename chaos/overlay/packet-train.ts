/**
 * Run on a client's machine: `packet-train.js <ip> <port> <every, ms> [text]`. Sends numbered datagrams to an echo port at even
 * intervals until SIGTERM, then waits a moment for answers under way and prints the record as one JSON line.
 *
 * The socket is bound to no address and connected to nobody, as those of DNS or QUIC clients that migrate are: each
 * datagram takes whatever way the machine's routes say at that moment.
 */
import { createSocket } from 'node:dgram';
import { setPriority } from 'node:os';
import type { TrainRecord } from './train.js';

const [ip = '', port = '', every = '10', text = ''] = process.argv.slice(2);
/** In every datagram, so that it is known when it is seen where it should not be. */
const mark = text === '' ? '' : ` ${text}`;
const interval = Number(every);
/** Answers that take longer than this are as good as lost. */
const GRACE_MS = 1000;

/** CLOCK_MONOTONIC in ms: the same clock in every process of the machine. */
const now = (): number => Number(process.hrtime.bigint()) / 1e6;

// The instrument must not be what waits when daemons compute: it would measure itself.
setPriority(-15);

const sentAt: number[] = [];
const answeredAt: (number | null)[] = [];
const seen: [number, string][] = [];
let refused = 0;
const socket = createSocket(ip.includes(':') ? 'udp6' : 'udp4');
socket.on('message', (message) => {
  const at = now();
  const words = message.toString('latin1').split(' ');
  const [n, from] = [Number(words[0]), words.at(-1) ?? ''];
  if (answeredAt[n] !== null) return;
  answeredAt[n] = at;
  if (seen.at(-1)?.[1] !== from) seen.push([at, from]);
  if (n === 0) console.log('rolling');
});
await new Promise<void>((resolve) => socket.bind(0, resolve));

const began = now();
let stopping = false;
process.once('SIGTERM', () => {
  stopping = true;
});

while (!stopping) {
  const n = sentAt.length;
  const due = began + n * interval;
  const wait = due - now();
  if (wait > 0) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    continue;
  }
  sentAt.push(now());
  answeredAt.push(null);
  socket.send(`${n}${mark}`, Number(port), ip, (error) => {
    if (error) refused++;
  });
  // Behind time: whoever is late sends at once, but lets answers in between.
  if (wait < -interval) await new Promise((resolve) => setImmediate(resolve));
}
await new Promise((resolve) => setTimeout(resolve, GRACE_MS));
socket.close();
const round = (ms: number): number => Math.round(ms * 1000) / 1000;
const record: TrainRecord = {
  everyMs: interval,
  sentAt: sentAt.map(round),
  answeredAt: answeredAt.map((at) => (at === null ? null : round(at))),
  seen: seen.map(([at, from]) => [round(at), from]),
  refused,
};
console.log(JSON.stringify(record));
