import { readFileSync } from 'node:fs';
import type { Clock } from '../../core/ports/clock.js';
import { instantOf, ms } from '../../model/time.js';

/** setTimeout takes a signed 32-bit number and fires at once beyond it. */
const LONGEST_TIMEOUT = 2 ** 31 - 1;
/** How often the time asleep is looked up: reading /proc/uptime costs microseconds, and a nap shorter matters to nobody. */
const ASLEEP_CHECK_MS = 250;
/** /proc/uptime counts hundredths of a second, and both clocks are read one after the other. */
const ASLEEP_NOISE_MS = 500;

/** This machine's time. Timers keep the process alive: who starts one also cancels it. */
export function systemClock(): Clock {
  const asleep = timeAsleep();
  return {
    now: () => instantOf(Date.now()),
    monotonic: () => {
      const awake = performance.now();
      return ms(awake + asleep(awake));
    },
    after: (delay, task) => {
      let timer: NodeJS.Timeout;
      const arm = (rest: number) => {
        timer = setTimeout(
          () => (rest > LONGEST_TIMEOUT ? arm(rest - LONGEST_TIMEOUT) : task()),
          Math.min(rest, LONGEST_TIMEOUT),
        );
      };
      arm(Math.max(0, delay));
      return () => clearTimeout(timer);
    },
  };
}

/**
 * Node's monotonic clock stands still while a Linux machine is suspended; the kernel's uptime (CLOCK_BOOTTIME) does not.
 * The difference, which only grows, is the time slept since this process started. Elsewhere it stays 0.
 */
function timeAsleep(): (awake: number) => number {
  const first = uptime();
  if (first === undefined) return () => 0;
  const difference = first - performance.now();
  let total = 0;
  let checked = performance.now();
  return (awake) => {
    if (awake - checked < ASLEEP_CHECK_MS) return total;
    checked = awake;
    const booted = uptime();
    const slept = booted === undefined ? 0 : booted - awake - difference;
    if (slept > total + ASLEEP_NOISE_MS) total = slept;
    return total;
  };
}

/** Milliseconds since the machine started, time asleep included; undefined where the kernel does not say. */
function uptime(): number | undefined {
  try {
    const value = Number.parseFloat(readFileSync('/proc/uptime', 'latin1'));
    return Number.isFinite(value) ? value * 1_000 : undefined;
  } catch {
    return undefined;
  }
}
