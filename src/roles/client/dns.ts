import type { Clock } from '../../core/ports/clock.js';
import type { Dns, DnsReport } from '../../core/ports/dns.js';
import type { Log } from '../../core/ports/log.js';
import type { Metrics } from '../../core/ports/metrics.js';
import type { IpAddress } from '../../model/address.js';
import type { InterfaceName } from '../../model/dataplane.js';
import { toVpndError } from '../../model/errors.js';
import type { EventCode } from '../../model/event.js';
import { type Millis, ms, seconds } from '../../model/time.js';

export interface DnsKeeperDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Undefined where this machine's resolver cannot be set at all. */
  readonly dns: Dns | undefined;
  /** Undefined: whoever is asked for names stays so. */
  readonly servers: readonly IpAddress[] | undefined;
  /** Of all tunnels there may be. */
  readonly devices: readonly InterfaceName[];
  /** The tunnel that carries the traffic, or holds it; undefined while the user wants none. */
  readonly wanted: () => InterfaceName | undefined;
  readonly happened: (code: EventCode, text: string) => void;
  readonly changed: () => void;
}

/** How a problem begins that a person should hear of at once: names are asked of whoever this machine asked before. */
export const NAMES_OUTSIDE = 'names are not asked through the tunnel';

/** Others' changes are noticed after this long: a look at a file, */
const LOOK_EVERY: Millis = seconds(2);
/** or a few small programs, where another program keeps the resolvers. */
const ASK_EVERY: Millis = seconds(15);
/** What could not be done is tried again. */
const AGAIN: Millis = seconds(5);

/**
 * Names are asked through the tunnel for as long as its user wants one, whether it works at the moment or not: what is held is
 * not asked of others either. What stands when the process ends is found by the next one.
 */
export class DnsKeeper {
  /** What this process knows to be in force: a device, nothing of ours, or undefined for what is not known yet. */
  #is: InterfaceName | 'nothing' | undefined;
  #report: DnsReport | undefined;
  #problem: string | undefined;
  #lookAt: Millis;
  #turn: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(private readonly deps: DnsKeeperDeps) {
    this.#lookAt = deps.clock.monotonic();
  }

  /** What a person should act on; undefined where there is nothing. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Names go through the tunnel at present, or nowhere. */
  get isForced(): boolean {
    return this.#is !== undefined && this.#is !== 'nothing';
  }

  /** For status: `9.9.9.9 through the tunnel, by systemd-resolved`. */
  get text(): string {
    const { servers } = this.deps;
    if (servers === undefined) return 'left alone';
    if (this.#problem?.startsWith(NAMES_OUTSIDE)) return 'not through the tunnel';
    if (!this.isForced || this.#report === undefined) return 'left alone while no tunnel is wanted';
    return `${servers.join(', ')} through the tunnel, by ${this.#report.way}`;
  }

  /** Makes it as wanted now; resolves when it was tried. Never rejects. */
  now(): Promise<void> {
    this.#turn = this.#turn.then(() => this.#follow());
    return this.#turn;
  }

  /** Called once in a while: follows what is wanted, and puts right what others have changed. */
  look(): void {
    if (this.#stopped || this.deps.clock.monotonic() < this.#lookAt) return;
    void this.now();
  }

  /** Leaves it as it is: the tunnels stay, too. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#turn;
  }

  async #follow(): Promise<void> {
    const { dns, clock, servers } = this.deps;
    if (dns === undefined || this.#stopped) return;
    // What an earlier process has set is undone also where this one is to leave it alone.
    const device = servers === undefined ? undefined : this.deps.wanted();
    try {
      if (device === undefined || servers === undefined) await this.#restore(dns);
      else await this.#put(dns, device, servers);
      this.#tell(undefined);
      this.#lookAt = ms(clock.monotonic() + (this.#report?.cheap === false ? ASK_EVERY : LOOK_EVERY));
    } catch (thrown) {
      this.#lookAt = ms(clock.monotonic() + AGAIN);
      const { code, message } = toVpndError(thrown);
      if (this.#problem === undefined) this.deps.log.warn('the resolver could not be set', { code, reason: message });
      const what = device === undefined ? 'names may still be asked as through a tunnel' : NAMES_OUTSIDE;
      this.#tell(`${what}: ${message}`);
    }
  }

  async #put(dns: Dns, device: InterfaceName, servers: readonly IpAddress[]): Promise<void> {
    const others = this.deps.devices.filter((one) => one !== device);
    const report = await dns.put({ device, servers, others });
    const before = this.#is;
    this.#is = device;
    this.#report = report;
    if (report.changed && before === device) {
      this.deps.metrics.repairs.inc({ what: 'dns' });
      this.deps.log.warn('set the resolver again, which somebody else had changed', { reason: report.way });
      this.deps.happened('repaired', `the resolver (${report.way}) had been changed by somebody else`);
    } else if (before !== device) this.deps.changed();
  }

  async #restore(dns: Dns): Promise<void> {
    if (this.#is === 'nothing') return;
    const restored = await dns.restore(this.deps.devices);
    const wasOurs = this.isForced;
    this.#is = 'nothing';
    this.#report = undefined;
    if (!wasOurs && restored.length > 0) {
      this.deps.log.info('put back the resolver that an earlier run had set', { count: restored.length });
    }
    if (wasOurs) this.deps.changed();
  }

  #tell(problem: string | undefined): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    if (problem !== undefined) this.deps.happened('problem', problem);
    this.deps.changed();
  }
}
