/**
 * A process that floods. Reads orders, a line of JSON each, from standard input; answers each with a line when it is over.
 */
import { createSocket } from 'node:dgram';
import { connect, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { connect as connectTls } from 'node:tls';
import { FLOODS, type Flood, type FloodName } from './floods.js';
import { frame, PREFACE } from './frames.js';

export interface Order {
  readonly kind: FloodName | 'udp';
  readonly port: number;
  /** Addresses of this machine to connect from, in turn. */
  readonly from: readonly string[];
  readonly connections: number;
  /** At most so long. */
  readonly ms: number;
  /** Over as soon as the other side has closed so many. */
  readonly until?: number;
}

export interface Done {
  readonly kind: string;
  readonly opened: number;
  /** Connections that the other side closed. */
  readonly closed: number;
  readonly bytes: number;
}

/** A connection that was refused is not tried again at once: the flood is what it sends. */
const AGAIN_MS = 50;

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as Order;
  const flooding = order.kind === 'udp' ? floodUdp(order) : flood(order, FLOODS[order.kind]);
  void flooding.then((done) => console.log(JSON.stringify(done)));
}
// Its connections are what keeps it, and nobody is to wait for those.
process.exit(0);

async function flood(order: Order, what: Flood): Promise<Done> {
  const count = { opened: 0, closed: 0, bytes: 0 };
  const end = Date.now() + order.ms;
  const worker = async (index: number): Promise<void> => {
    for (let n = index; Date.now() < end && count.closed < (order.until ?? Number.POSITIVE_INFINITY); n++) {
      const from = order.from[n % order.from.length] ?? '127.0.0.1';
      const by = await one(order.port, from, what, end, count);
      if (by === 'other') count.closed++;
      if (by === 'other' && what.instead !== 'handshake') await pause(AGAIN_MS);
    }
  };
  await Promise.all(Array.from({ length: order.connections }, (_, i) => worker(i)));
  return { kind: order.kind, ...count };
}

/** One connection, until it ends or time is up; by whom it was ended. */
function one(
  port: number,
  from: string,
  what: Flood,
  end: number,
  count: Omit<Done, 'kind'>,
): Promise<'self' | 'other'> {
  return new Promise((resolve) => {
    const tcp = connect({ host: '127.0.0.1', port, localAddress: from });
    let by: 'self' | 'other' = 'other';
    const stop = () => {
      by = 'self';
      tcp.destroy();
    };
    const timer = setTimeout(stop, Math.max(0, end - Date.now()));
    tcp.on('error', () => {});
    tcp.once('close', () => {
      clearTimeout(timer);
      resolve(by);
    });
    tcp.once('connect', () => {
      (count as { opened: number }).opened++;
      if (what.instead === 'tcp') {
        tcp.write(Buffer.from([22, 3, 1]));
        return;
      }
      const tls = connectTls({ socket: tcp, ALPNProtocols: ['h2'], rejectUnauthorized: false, minVersion: 'TLSv1.3' });
      tls.on('error', () => {});
      tls.once('close', () => tcp.destroy());
      tls.once('secureConnect', () => {
        if (what.instead === 'handshake') stop();
        // Who does not read does not hear that it is over.
        if (what.unread !== true) tls.resume();
        if (what.instead !== undefined) return;
        tls.write(PREFACE);
        tls.write(frame('settings', 0, 0));
        if (what.first !== undefined) tls.write(what.first);
        void pour(tls, what, count, stop);
      });
    });
  });
}

async function pour(to: Socket, { again, pause: wait, rounds }: Flood, count: Omit<Done, 'kind'>, stop: () => void) {
  if (again === undefined) return;
  for (let round = 0; !to.destroyed && to.writable; round++) {
    if (round === rounds) return stop();
    const bytes = again(round);
    (count as { bytes: number }).bytes += bytes.length;
    if (wait !== undefined) await pause(wait);
    await new Promise<void>((resolve) => {
      to.once('close', resolve);
      to.write(bytes, () => {
        to.removeListener('close', resolve);
        setImmediate(resolve);
      });
    });
  }
}

/** Questions that are answered, questions that are none, and vouches for nobody. */
async function floodUdp({ port, from, ms: lasting }: Order): Promise<Done> {
  const sockets = await Promise.all(
    from.map(async (address) => {
      const socket = createSocket('udp4');
      socket.on('error', () => {});
      await new Promise<void>((resolve) => socket.bind({ address }, resolve));
      return socket;
    }),
  );
  const plain = Buffer.concat([Buffer.from('VPNP\x01'), Buffer.alloc(59, 3)]);
  const vouch = Buffer.concat([Buffer.from('VPNP\x02'), Buffer.alloc(120, 5)]);
  const junk = Buffer.alloc(1_200, 9);
  const end = Date.now() + lasting;
  let bytes = 0;
  while (Date.now() < end) {
    for (const socket of sockets) {
      for (const datagram of [plain, vouch, junk]) {
        socket.send(datagram, port, '127.0.0.1', () => {});
        bytes += datagram.length;
      }
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (const socket of sockets) socket.close();
  return { kind: 'udp', opened: 0, closed: 0, bytes };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
