import { register } from 'node:module';

/** `node --import …/register.js`: modules loaded from now on are counted. */
register('./instrument.js', import.meta.url);
(globalThis as { __fuzzSeen?: (place: number) => void }).__fuzzSeen ??= () => {};
