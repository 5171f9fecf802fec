import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Done, Order } from './attacker.js';

/** The process that floods, seen from the test. */
export class Attacker {
  readonly #process: ChildProcess;
  readonly #waiting = new Map<string, (done: Done) => void>();

  constructor() {
    const script = fileURLToPath(new URL('./attacker.js', import.meta.url));
    const child = spawn(process.execPath, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#process = child;
    createInterface({ input: child.stdout }).on('line', (line) => {
      const done = JSON.parse(line) as Done;
      this.#waiting.get(done.kind)?.(done);
    });
  }

  /** Resolves when it is over; one of a kind at a time. */
  attack(order: Order): Promise<Done> {
    return new Promise((resolve) => {
      this.#waiting.set(order.kind, resolve);
      this.#process.stdin?.write(`${JSON.stringify(order)}\n`);
    });
  }

  stop(): void {
    this.#process.kill('SIGKILL');
  }
}
