declare const millis: unique symbol;
declare const instant: unique symbol;

/** A duration in milliseconds. */
export type Millis = number & { readonly [millis]: true };
/** Milliseconds since the Unix epoch, by the clock of the node that made it. */
export type Instant = number & { readonly [instant]: true };

export const ms = (n: number): Millis => n as Millis;
export const seconds = (n: number): Millis => (n * 1_000) as Millis;
export const minutes = (n: number): Millis => (n * 60_000) as Millis;
export const hours = (n: number): Millis => (n * 3_600_000) as Millis;
export const days = (n: number): Millis => (n * 86_400_000) as Millis;

export const instantOf = (epochMs: number): Instant => epochMs as Instant;
export const plus = (at: Instant, by: Millis): Instant => (at + by) as Instant;
export const since = (now: Instant, then: Instant): Millis => (now - then) as Millis;
