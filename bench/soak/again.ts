/** `again.js <file>`: judge what a run has seen that `RECORD=<file>` kept and that did not come to its own end. */
import { readFileSync } from 'node:fs';
import { describeMachine } from '../lib/machine.js';
import { keepSoak, type Outcome } from './outcome.js';

const [file = ''] = process.argv.slice(2);
const kept = JSON.parse(readFileSync(file, 'utf8')) as Pick<Outcome, 'record' | 'options'>;
const outcome: Outcome = { ...kept, left: [], tookMs: Number.NaN, stillRunning: [] };
keepSoak(outcome, await describeMachine(), (text) => console.log(text));
