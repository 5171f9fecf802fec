/**
 * A Linux data plane in a process of its own, so that a test can have one in each of its namespaces:
 * `namespace-agent.js <options as JSON>`. Reads {"id", "call", "args"} lines, answers {"id", "value"} or
 * {"id", "error": {"code", "message"}} lines. Ends with its standard input.
 */
import { createInterface } from 'node:readline';
import { openLinuxDataPlane } from '../../dataplane/linux.js';
import type { DataPlane } from '../../src/core/ports/dataplane.js';
import { toVpndError } from '../../src/model/errors.js';
import { instantOf, ms } from '../../src/model/time.js';
import { testLog } from './test-log.js';

const clock = {
  now: () => instantOf(Date.now()),
  monotonic: () => ms(performance.now()),
  after: () => () => {},
};
const options = JSON.parse(process.argv[2] ?? '{}');
const answer = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);
const refusal = (thrown: unknown) => {
  const { code, message } = toVpndError(thrown);
  return { code, message };
};

let plane: DataPlane;
try {
  plane = await openLinuxDataPlane({ ...options, clock, log: testLog() });
  answer({ id: 0, value: plane.engine });
} catch (thrown) {
  answer({ id: 0, error: refusal(thrown) });
  process.exit(1);
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, call, args } = JSON.parse(line) as { id: number; call: keyof DataPlane; args: never[] };
  const method = plane[call] as (...args: never[]) => unknown;
  void Promise.resolve(method.apply(plane, args)).then(
    (value) => answer({ id, value }),
    (thrown: unknown) => answer({ id, error: refusal(thrown) }),
  );
}
