import { figure, markdownTable } from '../../lib/chapter.js';
import { type Kept, origin, plot } from '../chapter.js';
import { range } from '../relay/chapter.js';
import type { StreamsRow, StreamsSummary } from './measure.js';
import { OURS } from './systems.js';

/** The part about idle connections, as Markdown. */
export function streamsChapter(kept: Kept<StreamsSummary>): string {
  const { rows, connections } = kept.summary;
  const ours = (row: StreamsRow) => row.server === OURS;
  return [
    '### Idle connections and pushes',
    origin(kept, 'beside-streams'),
    markdownTable(
      [
        `${connections} TLS connections`,
        'KB of memory each',
        'the process without any, MB',
        'CPU at rest, ms/s',
        'push p50, ms',
        'push p99, ms',
      ],
      rows.map((row) => [
        ours(row) ? `**${row.server}**` : row.server,
        range(row.kbPerConnection),
        range(row.emptyMb),
        range(row.cpuMsPerSecond),
        range(row.pushP50Ms),
        range(row.pushP99Ms),
      ]),
    ),
    plot(
      'beside-streams-memory',
      `Memory for each of ${connections} idle TLS connections`,
      'KB; whiskers: lowest and highest round',
      rows.map((row) => ({ label: row.server, ...row.kbPerConnection, ours: ours(row) })),
      figure,
    ),
    plot(
      'beside-streams-push',
      'One message up a connection and one pushed down it',
      'milliseconds, median of 200; whiskers: lowest and highest round',
      rows.map((row) => ({ label: row.server, ...row.pushP50Ms, ours: ours(row) })),
      figure,
    ),
  ].join('\n\n');
}
