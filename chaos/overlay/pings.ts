import type { Host, Spawned, WebServer } from '../lab/index.js';

const LOOK_MS = 20;
/** After so long without an answer the path is dead, and whatever was sent counts. */
const PATIENCE_MS = 3000;
/** Answers that overtake older ones, because the way has just changed, do not make these lost. */
const OVERTAKING = 2;

export interface PingCount {
  readonly sent: number;
  readonly lost: number;
}

/** ICMP echo from a machine to the web server: counts only, and costs next to nothing. See PacketTrain for times. */
export class Pings {
  readonly #ping: Spawned;
  readonly #answered = new Set<number>();
  #last = 0;

  private constructor(from: Host, to: string, everySeconds: number) {
    this.#ping = from.spawn(['ping', '-n', '-i', String(everySeconds), '-W', '2', to], {
      onLine: (line) => {
        const found = /bytes from .* icmp_seq=(\d+) /.exec(line);
        if (found === null) return;
        this.#answered.add(Number(found[1]));
        this.#last = Math.max(this.#last, Number(found[1]));
      },
    });
  }

  /** Resolves with the first answer. For up to 65,535 packets: their number is of 16 bits (RFC 792). */
  static async start(from: Host, web: WebServer, { everySeconds = 0.05 } = {}): Promise<Pings> {
    const pings = new Pings(from, web.host.ipv4 ?? '', everySeconds);
    await pings.#ping.waitForLine(/bytes from/);
    return pings;
  }

  /**
   * Of the packets up to this moment: those are judged once later ones are answered, since `ping` ends without waiting
   * for what is under way.
   */
  async stop(): Promise<PingCount> {
    const until = this.#last;
    const giveUp = Date.now() + PATIENCE_MS;
    while (this.#last < until + OVERTAKING && Date.now() < giveUp) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    const dead = this.#last < until + OVERTAKING;
    this.#ping.kill('SIGINT');
    await this.#ping.exited;
    const [, transmitted] = await this.#ping.waitForLine(/(\d+) packets transmitted/);
    const sent = dead ? Number(transmitted) : until;
    return { sent, lost: sent - [...this.#answered].filter((number) => number <= sent).length };
  }
}
