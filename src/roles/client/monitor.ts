import { type Liveness, type LivenessInput, newLiveness, type Pulse, stepLiveness } from '../../core/liveness.js';
import type { Clock } from '../../core/ports/clock.js';
import type { DataPlane } from '../../core/ports/dataplane.js';
import type { Reach } from '../../core/ports/reach.js';
import type { IpAddress, Port } from '../../model/address.js';
import type { InterfaceName } from '../../model/dataplane.js';
import type { InnerAddresses } from '../../model/offer.js';
import { type Millis, ms } from '../../model/time.js';

/** Nothing listens there at an exit: its kernel refuses at once. */
const PROBE_PORT = 9 as Port;
/**
 * Just below TCP's first retransmission (RFC 6298: 1 s): what is answered later may be the answer to the second try, and
 * says nothing about the round trip (Karn). That something came back the packet counters show all the same.
 */
const PROBE_TIMEOUT: Millis = ms(950);
const LOOK_EVERY: Millis = ms(100);
/** While something waits for an answer each look decides. */
const KEEN_LOOK: Millis = ms(40);
/** With nothing sent for a while there is nothing to be quick about. */
const RESTING_LOOK: Millis = ms(500);
const RESTING_AFTER: Millis = ms(15_000);

/** Sends one probe: a connection to a closed port of the exit's gateway address, from the tunnel's inner address. */
export const probeTunnel = (
  reach: Reach,
  inner: InnerAddresses,
  timeout = PROBE_TIMEOUT,
): Promise<Millis | undefined> =>
  reach.tcp({ ip: inner.gatewayIpv4 as IpAddress, port: PROBE_PORT }, { from: inner.ipv4, timeout });

/** Watches one tunnel for as long as it is there. */
export class Monitor {
  #state: Liveness;
  #sentAt: Millis;
  #cancel: () => void = () => {};
  #stopped = false;

  constructor(
    private readonly deps: {
      readonly clock: Clock;
      readonly dataplane: Pick<DataPlane, 'traffic'>;
      readonly reach: Reach;
      readonly device: InterfaceName;
      readonly inner: InnerAddresses;
      /** Called when the pulse changes, after the state has. */
      readonly changed: (pulse: Pulse, before: Pulse) => void;
    },
  ) {
    const now = deps.clock.monotonic();
    this.#state = newLiveness(this.#traffic(), now);
    this.#sentAt = now;
    this.#arm();
  }

  get pulse(): Pulse {
    return this.#state.pulse;
  }

  get roundTrip(): Millis | undefined {
    return this.#state.roundTrip;
  }

  /** How long ago anything came in. */
  get quietFor(): Millis {
    return ms(this.deps.clock.monotonic() - this.#state.heardAt);
  }

  /** Find out now rather than when it is due; with `patience` it is not given up before that time is over. */
  ask(patience: Millis = ms(0)): void {
    const { pulse, probes } = this.#state;
    if (!this.#stopped && (probes === 0 || pulse === 'dead' || patience > 0)) this.#input({ kind: 'ask', patience });
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  #arm(): void {
    if (this.#stopped) return;
    const resting =
      this.#state.pulse === 'alive' &&
      this.#state.probes === 0 &&
      this.deps.clock.monotonic() - this.#sentAt > RESTING_AFTER;
    const keen = this.#state.pulse !== 'dead' && (this.#state.probes > 0 || this.#state.unansweredSince !== undefined);
    this.#cancel = this.deps.clock.after(keen ? KEEN_LOOK : resting ? RESTING_LOOK : LOOK_EVERY, () => {
      const traffic = this.#traffic();
      // One packet now and then may be a probe of our own.
      if (traffic.txPackets > this.#state.tx + 1) this.#sentAt = this.deps.clock.monotonic();
      this.#input({ kind: 'look', traffic });
      this.#arm();
    });
  }

  #input(input: LivenessInput): void {
    const before = this.#state.pulse;
    const { state, probe } = stepLiveness(this.#state, input, this.deps.clock.monotonic());
    this.#state = state;
    if (probe) void this.#probe();
    if (state.pulse !== before) this.deps.changed(state.pulse, before);
  }

  async #probe(): Promise<void> {
    const roundTrip = await probeTunnel(this.deps.reach, this.deps.inner);
    if (!this.#stopped && roundTrip !== undefined) this.#input({ kind: 'answer', roundTrip });
  }

  #traffic() {
    return this.deps.dataplane.traffic(this.deps.device) ?? { rxPackets: 0, txPackets: 0 };
  }
}
