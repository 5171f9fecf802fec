/**
 * For `--import`, ahead of a daemon under measurement: SIGUSR2 collects all garbage, so that what is left is what is in
 * use. Prints a line of JSON to standard error when it is done. Costs nothing in between.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

process.on('SIGUSR2', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const began = performance.now();
  collect();
  console.error(`collected ${JSON.stringify({ tookMs: performance.now() - began, ...process.memoryUsage() })}`);
});
