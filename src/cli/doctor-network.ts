import { randomBytes } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { parseProbeResponse, probeRequest } from '../core/probe.js';
import { familyOf, formatHostPort, type HostPort, type IpAddress, type Port, parseIp } from '../model/address.js';
import { type Millis, seconds } from '../model/time.js';
import { udpDatagrams } from '../transport/udp.js';
import { checkPortal } from './doctor-portal.js';
import type { Check, Verdict } from './doctor-report.js';
import { fail, ok, skip } from './doctor-report.js';

const PATIENCE: Millis = seconds(4);

/** The checks that need the supernode (or base) this machine is to reach; undefined target skips them, and `why` says why. */
export function networkChecks(
  target: HostPort | undefined,
  probePort: Port | undefined,
  why = 'no supernode is known: give --supernode HOST:PORT',
): readonly Check[] {
  const name = target === undefined ? '' : formatHostPort(target);
  const none = skip(why);
  // Everything after DNS goes to one address, so that a name with a dead second address does not confuse.
  let address: IpAddress | undefined;
  return [
    {
      name: 'dns',
      run: async () => {
        if (target === undefined) return none;
        const literal = parseIp(target.host);
        if (literal.ok) {
          address = literal.value;
          return ok(`${target.host} needs no DNS`);
        }
        try {
          const found = parseIp((await lookup(target.host)).address);
          if (found.ok) address = found.value;
          return ok(`${target.host} is ${address}`);
        } catch (thrown) {
          return fail(`${target.host} has no address (${codeOf(thrown)})`, 'check the name, and /etc/resolv.conf');
        }
      },
    },
    {
      name: 'tcp',
      run: async () => {
        if (target === undefined) return none;
        if (address === undefined) return skip('needs the address');
        const error = await reachTcp(address, target.port);
        return error === undefined
          ? ok(`${name} answers by TCP`)
          : fail(`${name} does not answer by TCP (${error})`, tcpAdvice(error, target.port));
      },
    },
    {
      name: 'tls',
      run: async () => {
        if (target === undefined) return none;
        if (address === undefined) return skip('needs the address');
        return checkTls(address, target.port, name);
      },
    },
    {
      name: 'portal',
      run: async () => {
        if (target === undefined) return none;
        if (address === undefined) return skip('needs the address');
        return checkPortal(address, [target.host]);
      },
    },
    {
      name: 'udp',
      run: async () => {
        if (target === undefined) return none;
        if (probePort === undefined) return skip('the probe port is off');
        if (address === undefined) return skip('needs the address');
        return checkUdp(address, probePort);
      },
    },
  ];
}

/** What went wrong as an errno, or undefined. */
function reachTcp(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connectTcp({ host, port, timeout: PATIENCE });
    const finish = (error: string | undefined): void => {
      socket.destroy();
      resolve(error);
    };
    socket.once('connect', () => finish(undefined));
    socket.once('timeout', () => finish('ETIMEDOUT'));
    socket.once('error', (error) => finish(codeOf(error)));
  });
}

function tcpAdvice(error: string, port: number): string {
  if (error === 'ECONNREFUSED') return `nothing listens there: start the supernode, or check the port (${port})`;
  if (error === 'ENETUNREACH' || error === 'EHOSTUNREACH') return 'this machine has no route there: check its network';
  return `a firewall may drop it: allow outgoing TCP port ${port}`;
}

/** Whether TLS comes up, and whether the certificate's times agree with this machine's clock. */
function checkTls(host: IpAddress, port: number, name: string): Promise<Verdict> {
  return new Promise((resolve) => {
    // The overlay has a CA of its own, which the daemon checks; here only the way there is looked at.
    const socket = connectTls({ host, port, rejectUnauthorized: false, ALPNProtocols: ['h2'], timeout: PATIENCE });
    const finish = (verdict: Verdict): void => {
      socket.destroy();
      resolve(verdict);
    };
    socket.once('secureConnect', () => {
      const { valid_from: from, valid_to: to } = socket.getPeerCertificate();
      const [now, start, end] = [Date.now(), Date.parse(from), Date.parse(to)];
      if (now + seconds(300) < start || now > end) {
        finish(
          fail(
            `${name} speaks TLS, but its certificate is for ${from} to ${to}, and the clock here says ${new Date(now).toUTCString()}`,
            'set the clock of this machine, or renew the certificate of that one',
          ),
        );
      } else if (socket.alpnProtocol !== 'h2') {
        finish(fail(`${name} speaks TLS, but not HTTP/2`, 'check that it is a vpnd and no proxy in between'));
      } else finish(ok(`${name} speaks ${socket.getProtocol()} and HTTP/2`));
    });
    socket.once('timeout', () =>
      finish(fail(`${name} accepts TCP but no TLS (ETIMEDOUT)`, 'a firewall may inspect it')),
    );
    socket.once('error', (error) =>
      finish(fail(`${name} accepts no TLS (${codeOf(error)})`, 'check that it is a vpnd and no other service')),
    );
  });
}

async function checkUdp(host: IpAddress, port: Port): Promise<Verdict> {
  const nonce = Uint8Array.from(randomBytes(16));
  const at = formatHostPort({ ip: host, port });
  const answer = await udpDatagrams().ask(
    { ip: host, port },
    probeRequest(nonce),
    (bytes) => parseProbeResponse(bytes, nonce) !== undefined,
    PATIENCE,
  );
  const seen = answer === undefined ? undefined : parseProbeResponse(answer, nonce);
  if (seen === undefined) {
    return fail(
      `${at} does not answer by UDP`,
      'allow outgoing UDP here, and the probe and relay ports at the supernode; without it sessions are carried inside the stream, which is slower',
    );
  }
  return ok(`${at} answers by UDP, and sees this machine as ${formatHostPort(seen)} (IPv${familyOf(seen.ip)})`);
}

const codeOf = (thrown: unknown): string => {
  const { code, message } = thrown as NodeJS.ErrnoException;
  return code ?? message ?? 'failed';
};
