import { connect } from 'node:net';
import { performance } from 'node:perf_hooks';
import type { Reach } from '../core/ports/reach.js';
import { ms } from '../model/time.js';

/** What the far kernel itself answers with. An ICMP error is a router's answer, or this machine's own. */
const ANSWERS = new Set(['ECONNREFUSED', 'ECONNRESET']);

/**
 * Liveness by TCP (RFC 9293, 3.5.2: a closed port answers a SYN with a reset). Note that a reset which a rule of this
 * machine makes counts too: whoever asks through a tunnel has to make sure that the packet can leave.
 */
export const tcpReach: Reach = {
  tcp(to, { from, timeout }) {
    return new Promise((resolve) => {
      const started = performance.now();
      const socket = connect({
        host: 'ip' in to ? to.ip : to.host,
        port: to.port,
        noDelay: true,
        ...(from === undefined ? {} : { localAddress: from }),
      });
      const finish = (answered: boolean) => {
        clearTimeout(timer);
        const took = ms(performance.now() - started);
        socket.removeAllListeners();
        socket.on('error', () => {});
        // A reset and no goodbye: hundreds of connections in TIME-WAIT would be left otherwise.
        if (socket.readyState === 'open') socket.resetAndDestroy();
        else socket.destroy();
        resolve(answered ? took : undefined);
      };
      const timer = setTimeout(() => finish(false), timeout);
      socket.once('connect', () => finish(true));
      socket.once('error', (error: NodeJS.ErrnoException) => finish(ANSWERS.has(error.code ?? '')));
    });
  },
};
