import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import type { Order, Result } from './worker.js';

/** A worker that is silent for so long hangs in a story. */
const PATIENCE = 900_000;

/**
 * Plays orders in `jobs` processes; `told` hears of each result as it comes. Resolves once all are done, or `told` answers
 * `enough`. A worker that dies or hangs is a result as well.
 */
export async function playAll(
  orders: Iterable<Order>,
  jobs: number,
  told: (result: Result) => 'go on' | 'enough',
  folder: string = import.meta.dirname,
): Promise<void> {
  const waiting = orders[Symbol.iterator]();
  const children = new Set<ChildProcess>();
  let isEnough = false;
  const one = async (): Promise<void> => {
    let child = start();
    for (let next = waiting.next(); next.done !== true && !isEnough; next = waiting.next()) {
      const result = await ask(child, next.value);
      if (result.trace === '' && !child.connected) child = start();
      if (told(result) === 'enough') isEnough = true;
    }
    child.kill();
  };
  const start = (): ChildProcess => {
    const child = fork(join(folder, 'worker.js'), { execArgv: ['--enable-source-maps'] });
    children.add(child);
    child.once('exit', () => children.delete(child));
    return child;
  };
  const endAll = () => {
    for (const child of children) child.kill();
  };
  process.once('exit', endAll);
  try {
    await Promise.all(Array.from({ length: jobs }, one));
  } finally {
    endAll();
    process.off('exit', endAll);
  }
}

function ask(child: ChildProcess, order: Order): Promise<Result> {
  return new Promise((resolve) => {
    const finish = (result: Result) => {
      clearTimeout(alarm);
      child.off('message', hear);
      child.off('exit', gone);
      resolve(result);
    };
    const broken = (why: string): Result => ({
      seed: order.seed,
      trace: '',
      events: 0,
      roleMs: 0,
      healedAfter: undefined,
      failed: { invariant: '0', report: `seed ${order.seed}: ${why}\n  again: make sim SEED=${order.seed}` },
    });
    const hear = (message: unknown) => finish(message as Result);
    const gone = () => finish(broken('its process died'));
    const alarm = setTimeout(() => {
      child.off('exit', gone);
      child.once('exit', () => finish(broken('it came to no end')));
      child.kill('SIGKILL');
    }, PATIENCE);
    child.on('message', hear);
    child.once('exit', gone);
    child.send(order);
  });
}
