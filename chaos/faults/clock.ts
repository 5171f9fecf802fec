const CLOCK = new URL('./shifted-clock.js', import.meta.url).href;

/** Environment for a daemon whose wall clock is off. */
export const clockOff = (shiftMs: number): Record<string, string> => ({
  NODE_OPTIONS: `--import=${CLOCK}`,
  TEST_CLOCK_SHIFT_MS: String(shiftMs),
});

export const HOUR_MS = 3_600_000;
