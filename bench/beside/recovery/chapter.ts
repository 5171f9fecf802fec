import { markdownTable } from '../../lib/chapter.js';
import { type Kept, origin, plot } from '../chapter.js';
import { range } from '../relay/chapter.js';
import type { RecoveryRow, RecoverySummary } from './measure.js';

/** The part about first bytes and killed relays, as Markdown. */
export function recoveryChapter(kept: Kept<RecoverySummary>): string {
  const { rows, watchedMs } = kept.summary;
  const ours = (row: RecoveryRow) => row.system.startsWith('vpnd');
  const whole = (ms: number) => (ms >= watchedMs * 0.98 ? `all ${watchedMs}` : ms.toFixed(0));
  return [
    '### First byte, and a relay or lighthouse that is killed',
    origin(kept, 'beside-recovery'),
    markdownTable(
      [
        'system',
        'first byte of a page, ms from the begin',
        `longest time without a page, ms of the ${watchedMs} after the kill`,
      ],
      rows.map((row) => [
        ours(row) ? `**${row.system}**` : row.system,
        range(row.firstByteMs, (ms) => ms.toFixed(0)),
        row.gapMs === undefined ? 'nobody in the middle' : range(row.gapMs, whole),
      ]),
    ),
    plot(
      'beside-first-byte',
      'From the begin to the first byte of a page',
      'ms; whiskers: lowest and highest round',
      rows.map((row) => ({ label: row.system, ...row.firstByteMs, ours: ours(row) })),
      (ms) => ms.toFixed(0),
    ),
  ].join('\n\n');
}
