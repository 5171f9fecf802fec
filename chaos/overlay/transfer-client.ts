/**
 * Run on a client's machine: `transfer-client.js <url>`. Downloads what the lab's web server makes, compares every byte
 * with what must stand there, and prints the outcome as one JSON line. Exit status 0 in any case.
 */
import { get } from 'node:http';
import { patternAt } from '../lab/pattern.js';
import type { TransferOutcome } from './transfer.js';

const [url = ''] = process.argv.slice(2);
/** Without a byte for this long, it is not coming. */
const PATIENCE_MS = 30_000;
const PIECE = 1 << 20;

const began = performance.now();
let last = began;
let longestStallMs = 0;
let bytes = 0;
let firstWrong: number | undefined;
let expected = Number.NaN;

const trouble = await new Promise<string>((resolve) => {
  const request = get(url, (response) => {
    expected = Number(response.headers['content-length']);
    console.log('started');
    response.on('data', (chunk: Buffer) => {
      const at = performance.now();
      longestStallMs = Math.max(longestStallMs, at - last);
      last = at;
      for (let from = 0; from < chunk.length; from += PIECE) {
        const piece = chunk.subarray(from, from + PIECE);
        if (!piece.equals(patternAt(bytes + from, piece.length))) firstWrong ??= bytes + from;
      }
      bytes += chunk.length;
    });
    response.once('end', () => resolve(''));
    response.once('error', (error) => resolve(error.message));
    response.once('aborted', () => resolve('the connection was closed in the middle'));
  });
  request.setTimeout(PATIENCE_MS, () => request.destroy(new Error(`nothing came for ${PATIENCE_MS} ms`)));
  request.once('error', (error) => resolve(error.message));
});
const outcome: TransferOutcome = {
  intact: trouble === '' && bytes === expected && firstWrong === undefined,
  bytes,
  seconds: (performance.now() - began) / 1000,
  longestStallMs,
  trouble: trouble || (firstWrong === undefined ? '' : `byte ${firstWrong} or one soon after it is wrong`),
};
console.log(JSON.stringify(outcome));
