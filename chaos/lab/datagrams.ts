/**
 * Sends and receives datagrams, run as a process:
 * `datagrams.js <local port> <milliseconds> <answers> ["<ip> <port>"...]`.
 *
 * Sends one datagram from the local port to each target, prints every datagram that arrives as a JSON line
 * {"ip", "port", "text"}, and ends after the time, or after that many answers where the number is not 0.
 */
import { createSocket } from 'node:dgram';

const [localPort, milliseconds, answers, ...targets] = process.argv.slice(2);
const parsed = targets.map((target) => {
  const [ip = '', port = ''] = target.split(' ');
  return { ip, port: Number(port) };
});
const socket = createSocket(parsed.some(({ ip }) => ip.includes(':')) ? 'udp6' : 'udp4');
let wanted = Number(answers) || Number.POSITIVE_INFINITY;

socket.on('message', (message, from) => {
  console.log(JSON.stringify({ ip: from.address, port: from.port, text: message.toString('latin1') }));
  if (--wanted <= 0) end();
});
await new Promise<void>((resolve) => socket.bind(Number(localPort), resolve));
for (const { ip, port } of parsed) socket.send('hello', port, ip);
const limit = setTimeout(end, Number(milliseconds));

function end(): void {
  clearTimeout(limit);
  socket.close();
}
