import type { Clock } from '../../core/ports/clock.js';
import type { DialTarget } from '../../core/ports/network.js';
import { type HostPort, parseIp } from '../../model/address.js';
import type { Exemption } from '../../model/dataplane.js';
import { type Millis, minutes, ms } from '../../model/time.js';

/** An answer of base comes in seconds; the next question, if any, makes the way anew. */
const REACHED_FOR: Millis = minutes(1);

/**
 * The way to base beside the tunnels, for as long as it is asked something: a client that knows no supervisor any more,
 * since its membership or what it goes by is too old, holds all traffic, and would hold the question with it.
 */
export class BaseReach {
  readonly #asked = new Map<string, { readonly exemption: Exemption; readonly until: Millis }>();

  constructor(
    private readonly clock: Clock,
    /** Puts exemptions in force. */
    private readonly exempt: () => Promise<void>,
  ) {}

  /** At present; exact endpoints only. */
  exemptions(): readonly Exemption[] {
    const now = this.clock.monotonic();
    return [...this.#asked.values()].filter(({ until }) => now < until).map(({ exemption }) => exemption);
  }

  /** Before base is called. A name leads nowhere while traffic is held. */
  async ask({ host, port }: HostPort, expect: DialTarget['expect'] = { kind: 'base' }): Promise<void> {
    const ip = parseIp(host);
    if (expect.kind !== 'base' || !ip.ok) return;
    const exemption: Exemption = { protocol: 'tcp', endpoint: { ip: ip.value, port } };
    this.#asked.set(`${host} ${port}`, { exemption, until: ms(this.clock.monotonic() + REACHED_FOR) });
    await this.exempt();
  }
}
