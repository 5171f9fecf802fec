import type { Host } from '../../chaos/lab/index.js';

/** A resolver of a lab's, by what it was asked. */
export interface NameServer {
  /** Names, each once, in the order in which they were first asked for. */
  asked(): readonly string[];
  /** The addresses that asked. */
  from(): readonly string[];
}

/** Answers every question for an IPv4 address with one and the same (RFC 1035), and says who asked. */
const PROGRAM = `
  const [address] = process.argv.slice(1);
  const socket = require('node:dgram').createSocket('udp4');
  socket.on('message', (question, from) => {
    const labels = [];
    let at = 12;
    for (; question[at] > 0; at += question[at] + 1) labels.push(question.toString('latin1', at + 1, at + 1 + question[at]));
    const type = question.readUInt16BE(at + 1);
    console.log(JSON.stringify({ from: from.address, name: labels.join('.') }));
    const head = Buffer.from(question.subarray(0, at + 5));
    head.writeUInt16BE(0x8180, 2);
    head.writeUInt16BE(type === 1 ? 1 : 0, 6);
    head.fill(0, 8, 12);
    const record = Buffer.concat([Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]), Buffer.from(address.split('.').map(Number))]);
    socket.send(type === 1 ? Buffer.concat([head, record]) : head, from.port, from.address);
  });
  socket.bind(53, () => console.log('listening'));
`;

/** Starts one on a host; it ends with the lab. */
export async function nameServer(host: Host, answer: { readonly address: string }): Promise<NameServer> {
  const seen: { readonly from: string; readonly name: string }[] = [];
  const server = host.spawn([process.execPath, '-e', PROGRAM, answer.address], {
    onLine: (line) => {
      if (line.startsWith('{')) seen.push(JSON.parse(line));
    },
  });
  await server.waitForLine(/listening/);
  return {
    asked: () => [...new Set(seen.map(({ name }) => name))],
    from: () => seen.map(({ from }) => from),
  };
}
