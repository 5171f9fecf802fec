import type { Duplex } from 'node:stream';
import type { Dns } from '../src/core/ports/dns.js';
import { toVpndError } from '../src/model/errors.js';
import { type DnsAnswer, type DnsRequest, LONGEST_LINE, parseDnsRequest } from './dns-protocol.js';

/**
 * The part that stays root while a client runs as a user of its own: sets this machine's resolver as it is told, and
 * nothing else. What it can be told is no more than CAP_NET_ADMIN, which the daemon has, allows by turning packets. Resolves when the
 * other side is gone, or says what is no request; the resolver stays as it is then.
 */
export function serveDns(dns: Dns, channel: Duplex): Promise<void> {
  return new Promise((resolve) => {
    let pending = '';
    let turn: Promise<void> = Promise.resolve();
    const end = () => {
      channel.destroy();
      // What is under way is brought to its end.
      void turn.finally(resolve);
    };
    channel.setEncoding('utf8');
    channel.on('data', (chunk: string) => {
      const lines = `${pending}${chunk}`.split('\n');
      pending = lines.pop() ?? '';
      for (const line of lines) {
        const request = line.length <= LONGEST_LINE ? parseDnsRequest(line) : undefined;
        if (request === undefined) return end();
        // One at a time: who asks faster than is answered waits in the socket.
        channel.pause();
        turn = turn
          .then(() => answer(dns, request))
          .then((said) => {
            if (!channel.destroyed) channel.write(`${JSON.stringify(said)}\n`);
            channel.resume();
          });
      }
      if (pending.length > LONGEST_LINE) end();
    });
    channel.on('error', end);
    channel.on('end', end);
    channel.on('close', end);
  });
}

async function answer(dns: Dns, request: DnsRequest): Promise<DnsAnswer> {
  const { id } = request;
  try {
    switch (request.kind) {
      case 'put':
        return { id, report: await dns.put(request.wish) };
      case 'restore':
        return { id, restored: await dns.restore(request.devices) };
      case 'way':
        return { id, way: await dns.way() };
    }
  } catch (thrown) {
    const { code, message } = toVpndError(thrown);
    return { id, failed: { code, message } };
  }
}
