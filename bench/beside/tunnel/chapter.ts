import { figure, markdownTable } from '../../lib/chapter.js';
import { judged, type Kept, origin, plot } from '../chapter.js';
import { range } from '../relay/chapter.js';
import type { TunnelRow, TunnelSummary } from './measure.js';

/** The part about tunnels, as Markdown. */
export function tunnelChapter(kept: Kept<TunnelSummary>): string {
  const { rows } = kept.summary;
  const ours = (row: TunnelRow) => row.system.startsWith('vpnd');
  const failed = rows.filter((row) => row.failures.length > 0);
  return [
    '### Tunnels',
    origin(kept, 'beside-tunnel'),
    markdownTable(
      ['tunnel', 'cipher', 'MTU', 'Mbit/s', 'of bare wireguard-go', 'CPU of its own processes, s per GB'],
      rows.map((row) => [
        ours(row) ? `**${row.system}**` : row.system,
        row.cipher,
        String(row.mtu),
        range(row.mbps),
        range(row.ofBare),
        row.cpuSecondsPerGigabyte.max === 0 ? '-' : range(row.cpuSecondsPerGigabyte),
      ]),
    ),
    plot(
      'beside-tunnel',
      'One TCP connection through each tunnel',
      'Mbit/s; whiskers: lowest and highest round',
      rows.filter((row) => row.cipher !== 'none').map((row) => ({ label: row.system, ...row.mbps, ours: ours(row) })),
      figure,
    ),
    judged(kept),
    ...failed.map((row) => `${row.system} failed in ${row.failures.length} rounds: ${row.failures[0]}`),
  ].join('\n\n');
}
