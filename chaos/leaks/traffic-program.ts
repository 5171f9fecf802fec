/**
 * Run on a client's machine: `traffic-program.js <json>`. Sends what users send, the way their programs do, until SIGTERM:
 * numbered datagrams and connections to a server in both families, from sockets that are bound to nothing and from ones
 * that are bound to the outer card's addresses, and questions for names to a resolver outside and to the router.
 * Everything has a canary in it. Prints `rolling`, then `through <seconds since 1970>` for the first datagram that came
 * back from another address than the home's own: from its sending on, the tunnel carried traffic.
 */
import { createSocket, type Socket } from 'node:dgram';
import { lookup } from 'node:dns';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { CANARY, type TrafficOptions } from './canary.js';

const { servers, router, home, device, echoPort } = JSON.parse(process.argv[2] ?? '{}') as TrafficOptions;
const DATAGRAM_EVERY = 20;
const CONNECTION_EVERY = 150;
const NAME_EVERY = 100;
/** The card's addresses change when the machine is carried to another network. */
const BIND_AGAIN = 1_000;

let sent = 0;
const sentAt = new Map<number, number>();
let isThrough = false;

const unbound = { 4: createSocket('udp4'), 6: createSocket('udp6') } as const;
let bound: readonly { readonly socket: Socket; readonly family: 4 | 6 }[] = [];
for (const socket of Object.values(unbound)) {
  socket.on('error', () => {});
  socket.on('message', (message) => heard(message.toString('latin1')));
}

/** `<canary> <number> <address it was seen under>` */
function heard(text: string): void {
  const found = /(\d+) (\S+)$/.exec(text);
  if (found === null || isThrough || found[2] === home || found[2]?.startsWith('2001:db8:1')) return;
  isThrough = true;
  console.log(`through ${(sentAt.get(Number(found[1])) ?? 0) / 1_000}`);
}

function datagrams(): void {
  for (const family of [4, 6] as const) {
    const to = servers[family];
    const n = ++sent;
    if (family === 4) sentAt.set(n, Date.now());
    if (sentAt.size > 5_000) sentAt.delete(sentAt.keys().next().value ?? 0);
    send(unbound[family], `${CANARY} ${n}`, echoPort, to);
    for (const one of bound) if (one.family === family) send(one.socket, `${CANARY} bound ${++sent}`, echoPort, to);
  }
}

function send(socket: Socket, text: string, port: number, to: string): void {
  socket.send(text, port, to, () => {
    // Refused by this machine, as it should be while everything is held.
  });
}

function connections(): void {
  for (const family of [4, 6] as const) {
    for (const localAddress of [undefined, ...addresses(family)]) {
      const socket = connect({
        host: servers[family],
        port: 80,
        ...(localAddress === undefined ? {} : { localAddress }),
      });
      socket.setTimeout(2_000, () => socket.destroy());
      socket.on('error', () => {});
      socket.on('connect', () => socket.end(`GET /${CANARY} HTTP/1.0\r\n\r\n`));
      socket.resume();
    }
  }
}

/** A question for an A record, written out: a resolver library would ask only where it is told to. */
function names(): void {
  const labels = [CANARY, `n${++sent}`, 'example'];
  const name = Buffer.concat([...labels.map((one) => Buffer.from([one.length, ...Buffer.from(one)])), Buffer.alloc(1)]);
  const question = Buffer.concat([
    Buffer.from([0, sent & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
    name,
    Buffer.from([0, 1, 0, 1]),
  ]);
  for (const to of [servers[4], router]) {
    unbound[4].send(question, 53, to, () => {});
    const socket = connect({ host: to, port: 53 });
    socket.setTimeout(1_000, () => socket.destroy());
    socket.on('error', () => {});
    socket.on('connect', () => socket.end(Buffer.concat([Buffer.from([0, question.length]), question])));
  }
  for (const one of bound) if (one.family === 4) one.socket.send(question, 53, router, () => {});
  unbound[6].send(question, 53, servers[6], () => {});
  lookup(labels.join('.'), () => {});
}

function addresses(family: 4 | 6): readonly string[] {
  const found = networkInterfaces()[device] ?? [];
  const own = found.filter((one) => one.family === `IPv${family}` && !one.address.startsWith('fe80'));
  return own.map((one) => one.address);
}

function bindAgain(): void {
  for (const { socket } of bound) socket.close();
  bound = ([4, 6] as const).flatMap((family) =>
    addresses(family).map((address) => {
      const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
      socket.on('error', () => {});
      socket.bind(0, address);
      return { socket, family };
    }),
  );
}

bindAgain();
const timers = [
  setInterval(bindAgain, BIND_AGAIN),
  setInterval(datagrams, DATAGRAM_EVERY),
  setInterval(connections, CONNECTION_EVERY),
  setInterval(names, NAME_EVERY),
];
process.once('SIGTERM', () => {
  for (const timer of timers) clearInterval(timer);
  console.log(`sent ${sent}`);
  // Not for what is still on its way: most of it never arrives, which is the point.
  process.exit(0);
});
console.log('rolling');
