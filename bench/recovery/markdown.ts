/** `node dist/bench/recovery/markdown.js`: what bench/results/recovery.json holds, as the table of docs/performance.md. */
import { readFileSync } from 'node:fs';
import { resultFile, type Target } from '../lib/report.js';
import type { EventSummary } from './kept.js';

interface Kept {
  readonly summary: Readonly<Record<string, EventSummary>>;
  readonly targets: readonly (Target & { readonly event: string; readonly holds: boolean })[];
}

const { summary, targets } = JSON.parse(readFileSync(resultFile('recovery'), 'utf8')) as Kept;

const ms = (value: number | null | undefined): string =>
  value === null
    ? 'never'
    : value === undefined
      ? ''
      : value < 1000
        ? `${Math.round(value)} ms`
        : `${(value / 1000).toFixed(2)} s`;

console.log('| event | runs | traffic again: p50 | p99 | max | longest gap: p50 | max | packets lost | target |');
console.log('|---|---|---|---|---|---|---|---|---|');
for (const [name, event] of Object.entries(summary)) {
  const { recoveredMs, gapMs, lost, runs } = event;
  const own = targets.filter((target) => target.event === name);
  const missed = own.filter((target) => !target.holds).map((target) => target.what.replace(`${name}: `, ''));
  const verdict = own.length === 0 ? 'none' : missed.length === 0 ? 'holds' : `missed: ${missed.join('; ')}`;
  const cells = [
    event.title,
    String(runs),
    ms(recoveredMs?.p50),
    ms(recoveredMs?.p99),
    ms(recoveredMs?.max),
    ms(gapMs?.p50),
    ms(gapMs?.max),
    lost === undefined ? '' : `${lost.total} of ${lost.sent}`,
    verdict,
  ];
  console.log(`| ${cells.join(' | ')} |`);
}
