/** What downloads consist of, so that whoever gets one can tell whether each byte is in its place. */
const PERIOD = 1 << 20;

/** Twice, so that any piece of up to a period's length is in one piece. */
const TWICE = (() => {
  const words = new Uint32Array(PERIOD / 4);
  // Xorshift (Marsaglia 2003): a piece that is missing or exchanged is noticed wherever it is.
  let word = 0x2545f491;
  for (let i = 0; i < words.length; i++) {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    words[i] = word >>> 0;
  }
  const once = Buffer.from(words.buffer);
  return Buffer.concat([once, once]);
})();

/** The `length` bytes (at most 1 MiB) that stand at this position of every download. Not to be written to. */
export function patternAt(position: number, length: number): Buffer {
  if (length > PERIOD) throw new RangeError(`a piece of at most ${PERIOD} bytes, not ${length}`);
  const from = position % PERIOD;
  return TWICE.subarray(from, from + length);
}
