/**
 * Run on the client's machine: `first-packet.js <socket> <host> <port> <times> [region]`. Asks the daemon for an exit,
 * opens a TCP connection through the tunnel at once, and prints one JSON line per time: milliseconds from the request
 * to the daemon's answer, and from the request to the first packet that came back through the tunnel (the SYN-ACK).
 * The session is closed again after each time but the last.
 */
import { connect } from 'node:net';
import { performance } from 'node:perf_hooks';
import { localClient } from '../../src/transport/local-api-client.js';

const [socket = '', host = '', port = '80', times = '1', region = ''] = process.argv.slice(2);
const api = localClient(socket);

for (let n = 1; n <= Number(times); n++) {
  const started = performance.now();
  await api.up({ region }, AbortSignal.timeout(30_000));
  const answered = performance.now() - started;
  await connected();
  console.log(JSON.stringify({ answeredMs: answered, firstPacketMs: performance.now() - started }));
  if (n < Number(times)) await api.down();
}

function connected(): Promise<void> {
  return new Promise((resolve, reject) => {
    const tcp = connect({ host, port: Number(port) });
    tcp.setTimeout(5_000, () => tcp.destroy(new Error('no answer through the tunnel in 5 s')));
    tcp.once('error', reject);
    tcp.once('connect', () => {
      tcp.destroy();
      resolve();
    });
  });
}
