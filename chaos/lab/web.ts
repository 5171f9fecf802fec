import { fileURLToPath } from 'node:url';
import type { Host } from './host.js';
import type { Spawned } from './processes.js';

/** A request as the server saw it. */
export interface SeenRequest {
  /** The client's address: an IPv4 one in dotted form. */
  readonly ip: string;
  readonly port: number;
  readonly path: string;
}

/** A datagram as it arrived somewhere. */
export interface SeenDatagram {
  readonly ip: string;
  readonly port: number;
  readonly text: string;
}

/** Ports on which a web server's host answers any datagram with the address it came from. */
export const REFLECTOR_PORTS = [53, 3478] as const;

/** There a datagram comes back with the address it was seen under. */
export const ECHO_PORT = 7;

const START_LIMIT_MS = 60_000;

/** Real HTTP from a process of its own in its own namespace. */
export class WebServer {
  readonly host: Host;
  readonly process: Spawned;

  private constructor(host: Host, process: Spawned) {
    this.host = host;
    this.process = process;
  }

  static async start(host: Host): Promise<WebServer> {
    const process = host.spawn([node(), script('web-server.js'), '80', ...[...REFLECTOR_PORTS, ECHO_PORT].map(String)]);
    await process.waitForLine(/^listening/, START_LIMIT_MS);
    return new WebServer(host, process);
  }

  /** Without a final slash. */
  get url(): string {
    return `http://${this.host.ipv4}`;
  }

  get url6(): string {
    return `http://[${this.host.ipv6}]`;
  }

  /** The newest requests, oldest first. */
  requests(): SeenRequest[] {
    return this.process
      .lines('stdout')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as SeenRequest);
  }
}

/**
 * Send one datagram from `from` (a local port) to each of `to`, and answer with all that arrived on that port within
 * `forMs`. With a web server's reflector as target, an answer's text is the address the datagram was seen under.
 */
export async function exchangeDatagrams(
  host: Host,
  options: { from: number; to?: readonly { ip: string; port: number }[]; forMs?: number; answers?: number },
): Promise<SeenDatagram[]> {
  const { from, to = [], forMs = 1000, answers = Number.POSITIVE_INFINITY } = options;
  const targets = to.map(({ ip, port }) => `${ip} ${port}`);
  const limits = [String(forMs), String(Number.isFinite(answers) ? answers : 0)];
  const output = await host.exec([node(), script('datagrams.js'), String(from), ...limits, ...targets], {
    timeout: START_LIMIT_MS + forMs,
  });
  return output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as SeenDatagram);
}

function node(): string {
  return process.execPath;
}

function script(name: string): string {
  return fileURLToPath(new URL(`./${name}`, import.meta.url));
}
