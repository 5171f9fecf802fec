import { readFile } from 'node:fs/promises';
import t from 'tap';
import { drawMachine, MACHINES, type Machine, mayBecome } from '../../src/core/session-states.js';

const page = await readFile('docs/sessions.md', 'utf8');
const machines = Object.keys(MACHINES) as Machine[];

t.test('the pictures of docs/sessions.md are those of the code', async (t) => {
  for (const machine of machines) {
    const drawn = new RegExp(`<!-- states: ${machine} -->\n\n\`\`\`mermaid\n([^\`]*)\n\`\`\``).exec(page)?.[1];
    t.equal(drawn, drawMachine(machine), machine);
  }
});

t.test('every state can be left, and staying is no step', async (t) => {
  for (const machine of machines) {
    const states = new Set(MACHINES[machine].map(([, to]) => to as string));
    for (const state of states) {
      t.ok(
        MACHINES[machine].some(([from]) => from === state),
        `${machine}: ${state}`,
      );
      t.ok(mayBecome(machine, state, state));
    }
  }
  t.notOk(mayBecome('tunnel', 'dead', 'active'));
  t.notOk(mayBecome('pulse', 'dead', 'silent'));
});
