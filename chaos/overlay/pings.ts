import type { Host, Spawned, WebServer } from '../lab/index.js';

/** ICMP echo from a machine to the web server: counts only, and costs next to nothing. See PacketTrain for times. */
export class Pings {
  readonly #ping: Spawned;

  private constructor(ping: Spawned) {
    this.#ping = ping;
  }

  /** Resolves with the first answer. */
  static async start(from: Host, web: WebServer, { everySeconds = 0.05 } = {}): Promise<Pings> {
    const ping = from.spawn(['ping', '-n', '-i', String(everySeconds), '-W', '2', web.host.ipv4 ?? '']);
    await ping.waitForLine(/bytes from/);
    return new Pings(ping);
  }

  async stop(): Promise<{ readonly sent: number; readonly lost: number }> {
    this.#ping.kill('SIGINT');
    await this.#ping.exited;
    const found = await this.#ping.waitForLine(/(\d+) packets transmitted, (\d+) received/);
    const [sent = 0, received = 0] = found.slice(1).map(Number);
    return { sent, lost: sent - received };
  }
}
