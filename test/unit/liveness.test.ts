import t from 'tap';
import { type Liveness, type LivenessInput, newLiveness, type Pulse, stepLiveness } from '../../src/core/liveness.js';
import { ms } from '../../src/model/time.js';

/** A tunnel that is looked at ten times a second; `at` is the time of each look. */
class Watched {
  #state: Liveness;
  #now = 0;
  #rx = 0;
  #tx = 0;
  readonly probes: number[] = [];
  answers = false;

  constructor() {
    this.#state = newLiveness({ rxPackets: 0, txPackets: 0 }, ms(0));
  }

  get pulse(): Pulse {
    return this.#state.pulse;
  }

  send(): void {
    this.#tx++;
  }

  /** What comes in, an answered probe included. */
  hear(): void {
    this.#rx++;
  }

  answer(): void {
    this.hear();
    this.#step({ kind: 'answer', roundTrip: ms(20) });
  }

  /** Looks until then; answers with the time at which the pulse became what it is. */
  until(end: number, every = 100): number {
    let changed = this.#now;
    for (; this.#now < end; this.#now += every) {
      const before = this.pulse;
      this.#step({ kind: 'look', traffic: { rxPackets: this.#rx, txPackets: this.#tx } });
      if (this.pulse !== before) changed = this.#now;
    }
    return changed;
  }

  #step(input: LivenessInput): void {
    const { state, probe } = stepLiveness(this.#state, input, ms(this.#now));
    this.#state = state;
    if (!probe) return;
    this.probes.push(this.#now);
    this.#tx++;
    if (this.answers) this.answer();
  }
}

t.test('what is sent and never answered by its nature does not make a tunnel silent', async (t) => {
  const tunnel = new Watched();
  tunnel.send();
  tunnel.until(700);
  t.equal(tunnel.probes.length, 1, 'it is asked whether anybody is there');
  t.equal(tunnel.pulse, 'alive', 'and until that had the time to be answered it is not said to be silent');
  tunnel.answer();
  tunnel.until(1200);
  t.equal(tunnel.pulse, 'alive');
});

t.test('a tunnel that sends and hears nothing is silent within a second and dead soon after', async (t) => {
  const tunnel = new Watched();
  tunnel.send();
  const silent = tunnel.until(1000);
  t.equal(tunnel.pulse, 'silent');
  t.ok(silent >= 700 && silent <= 900, `silent after ${silent} ms`);
  const dead = tunnel.until(1800);
  t.equal(tunnel.pulse, 'dead');
  t.ok(dead >= 1100 && dead <= 1400, `dead after ${dead} ms`);
  t.same(tunnel.probes.slice(0, 3).length, 3, 'three probes were sent before');
});

t.test('anything that comes in brings it back', async (t) => {
  const tunnel = new Watched();
  tunnel.send();
  tunnel.until(2000);
  t.equal(tunnel.pulse, 'dead');
  tunnel.hear();
  tunnel.until(2200);
  t.equal(tunnel.pulse, 'alive');
});

t.test('an idle tunnel is asked every five seconds', async (t) => {
  const tunnel = new Watched();
  tunnel.answers = true;
  tunnel.until(20_000);
  t.equal(tunnel.pulse, 'alive');
  t.ok(tunnel.probes.length >= 3 && tunnel.probes.length <= 4, `${tunnel.probes.length} probes in 20 s`);
});

t.test('a look that comes late says nothing: the whole machine may have slept', async (t) => {
  const tunnel = new Watched();
  tunnel.send();
  tunnel.until(300);
  tunnel.until(10_000, 9000);
  t.not(tunnel.pulse, 'dead');
});
