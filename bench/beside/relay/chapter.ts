import { figure, markdownTable } from '../../lib/chapter.js';
import { judged, type Kept, origin, plot } from '../chapter.js';
import type { Spread } from '../spread.js';
import type { RelayRow, RelaySummary } from './measure.js';
import { NAMES } from './systems.js';

/** The part about relays, as Markdown. */
export function relayChapter(kept: Kept<RelaySummary>): string {
  const { rows } = kept.summary;
  const ours = (row: RelayRow) => row.system === NAMES.vpnd || row.system === NAMES.vpndHop;
  const bars = (sessions: number, what: (row: RelayRow) => Spread) =>
    rows
      .filter((row) => row.sessions === sessions && row.system !== NAMES.direct)
      .map((row) => ({ label: row.system, ...what(row), ours: ours(row) }));
  const relays = rows.filter((row) => row.system !== NAMES.direct);
  return [
    '### Relays',
    origin(kept, 'beside-relay'),
    markdownTable(
      [
        'relay',
        'sessions',
        'packets/s delivered',
        'lost, %',
        'CPU added, us per packet',
        's per GB',
        'of it its own process, us',
      ],
      relays.map((row) => [
        ours(row) ? `**${row.system}**` : row.system,
        String(row.sessions),
        range(row.packetsPerSecond, (value) => `${(value / 1000).toFixed(0)}k`),
        range(row.lossPercent),
        range(row.addedMicroseconds),
        figure(row.addedSecondsPerGigabyte.median),
        row.processMicroseconds.max === 0 ? '-' : figure(row.processMicroseconds.median),
      ]),
    ),
    plot(
      'beside-relay-rate',
      'Packets delivered, 10,000 sessions',
      'thousands a second; whiskers: lowest and highest round',
      bars(10_000, (row) => row.packetsPerSecond),
      (value) => `${(value / 1000).toFixed(0)}k`,
    ),
    plot(
      'beside-relay-cpu',
      'CPU that a relay adds to a packet, 1,000 sessions',
      'microseconds; whiskers: lowest and highest round',
      bars(1_000, (row) => row.addedMicroseconds),
      figure,
    ),
    judged(kept),
  ].join('\n\n');
}

/** Median, and the lowest and highest round where they differ. */
export const range = ({ median, min, max }: Spread, show: (value: number) => string = figure): string =>
  show(min) === show(max) ? show(median) : `${show(median)} (${show(min)} - ${show(max)})`;
