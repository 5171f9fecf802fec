/**
 * Load generator: holds many authenticated control streams to one supernode, each with an identity, a membership, a TLS
 * connection and heartbeats of its own, and takes up again what breaks. Reads `Orders` as JSON from standard input.
 *
 * By itself it joins all, prints `joined {...}`, and at SIGTERM `left {...}`; its exit status is 1 when a stream was lost
 * meanwhile. With `control` it connects to that Unix socket and does what it is told there, a line of JSON at a time.
 */
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { text } from 'node:stream/consumers';
import { openSodium } from '../../src/identity/sodium.js';
import { systemClock } from '../../src/roles/common/system-clock.js';
import { type Asked, type Counts, Crowd, type Joined, type Load } from './crowd.js';

export interface Orders extends Load {
  readonly control?: string;
}

export interface Left {
  readonly lost: number;
  readonly pings: number;
}

interface Some {
  readonly first: number;
  readonly count: number;
}

/** What can be told to a generator, and what it answers. */
export interface Verbs {
  join: [Some, Joined];
  leave: [Some, Record<string, never>];
  ask: [Some & { readonly times: number; readonly every: number; readonly atOnce: number }, Asked];
  sessions: [Some & { readonly times: number; readonly atOnce: number }, Asked];
  counts: [Record<string, never>, Counts];
}

export type Order = {
  [V in keyof Verbs]: { readonly id: number; readonly verb: V; readonly of: Verbs[V][0] };
}[keyof Verbs];

const { crypto, random } = await openSodium();
const { control, ...load } = JSON.parse(await text(process.stdin)) as Orders;
const crowd = new Crowd(load, crypto, random, systemClock());

process.once('SIGTERM', () => {
  const { lost, pings } = crowd.counts();
  say('left', { lost, pings } satisfies Left);
  process.exit(lost === 0 ? 0 : 1);
});

if (control === undefined) {
  say('joined', await crowd.join(0, load.members.length));
} else {
  const socket = connect(control);
  // Without whoever gives the orders there is nothing to do.
  socket.once('close', () => process.exit(0));
  const answer = (data: object) => socket.write(`${JSON.stringify(data)}\n`);
  createInterface({ input: socket }).on('line', (line) => {
    const order = JSON.parse(line) as Order;
    obey(order).then(
      (result) => answer({ id: order.id, result }),
      (thrown: unknown) => answer({ id: order.id, error: String(thrown) }),
    );
  });
  answer({ pid: process.pid });
}

async function obey(order: Order): Promise<object> {
  switch (order.verb) {
    case 'join':
      return crowd.join(order.of.first, order.of.count);
    case 'leave':
      crowd.leave(order.of.first, order.of.count);
      return {};
    case 'ask':
      return crowd.ask(order.of.first, order.of.count, order.of.times, order.of.every, order.of.atOnce);
    case 'sessions':
      return crowd.sessions(order.of.first, order.of.count, order.of.times, order.of.atOnce);
    case 'counts':
      return crowd.counts();
  }
}

function say(what: string, data: object): void {
  console.log(`${what} ${JSON.stringify(data)}`);
}
