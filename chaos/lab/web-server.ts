/**
 * The lab's web server, run as a process: `web-server.js <port> [<udp port>...]`.
 *
 * - GET /                       {"ip", "port"} of the client, as JSON
 * - GET /bytes/<n>              n bytes, as pattern.ts makes them
 * - GET /drip/<n>/<seconds>     n bytes, spread evenly over that time: a download in progress
 *
 * Prints "listening", then one JSON line per request. Any datagram to one of the UDP ports is answered with the
 * address it came from, as JSON; to port 7 with itself, a blank and the address it came from (after RFC 862).
 */
import { createSocket } from 'node:dgram';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline, Readable } from 'node:stream';
import { patternAt } from './pattern.js';

const CHUNK = 64 * 1024;
const DRIPS_PER_SECOND = 100;
const ECHO_PORT = 7;

const [httpPort = '80', ...udpPorts] = process.argv.slice(2);

const server = createServer((request, response) => {
  const client = whoIs(request.socket.remoteAddress ?? '', request.socket.remotePort ?? 0);
  console.log(JSON.stringify({ ...client, path: request.url }));
  answer(request, response, client);
});

function answer(request: IncomingMessage, response: ServerResponse, client: object): void {
  const [path = '/'] = (request.url ?? '/').split('?');
  const [, what, size = '', seconds = ''] = path.split('/');
  if (what === '') {
    response.setHeader('content-type', 'application/json');
    response.end(`${JSON.stringify(client)}\n`);
  } else if (what === 'bytes' && /^\d+$/.test(size)) {
    send(response, Number(size), bytes(Number(size)));
  } else if (what === 'drip' && /^\d+$/.test(size) && /^\d+$/.test(seconds)) {
    send(response, Number(size), drip(Number(size), Number(seconds)));
  } else {
    response.statusCode = 404;
    response.end();
  }
}

function send(response: ServerResponse, length: number, content: Iterable<Buffer> | AsyncIterable<Buffer>): void {
  response.setHeader('content-type', 'application/octet-stream');
  response.setHeader('content-length', length);
  // A client that goes away in the middle is no trouble of ours.
  pipeline(Readable.from(content), response, () => undefined);
}

function* bytes(length: number): Iterable<Buffer> {
  for (let at = 0; at < length; at += CHUNK) yield patternAt(at, Math.min(length - at, CHUNK));
}

async function* drip(length: number, seconds: number): AsyncIterable<Buffer> {
  const began = performance.now();
  for (let sent = 0; sent < length; ) {
    await new Promise((resolve) => setTimeout(resolve, 1000 / DRIPS_PER_SECOND));
    const upTo = Math.min(length, Math.floor((length * (performance.now() - began)) / 1000 / Math.max(1, seconds)));
    for (; sent < upTo; sent += Math.min(CHUNK, upTo - sent)) yield patternAt(sent, Math.min(CHUNK, upTo - sent));
  }
}

function whoIs(address: string, port: number): { ip: string; port: number } {
  return { ip: address.replace(/^::ffff:/, ''), port };
}

async function reflect(port: number): Promise<void> {
  const socket = createSocket('udp6');
  socket.on('message', (message, from) => {
    const who = whoIs(from.address, from.port);
    socket.send(port === ECHO_PORT ? `${message} ${who.ip}` : JSON.stringify(who), from.port, from.address);
  });
  await new Promise<void>((resolve) => socket.bind(port, resolve));
}

await Promise.all([
  ...udpPorts.map((port) => reflect(Number(port))),
  new Promise<void>((resolve) => server.listen(Number(httpPort), '::', resolve)),
]);
console.log('listening');
