import { inWords, type Mark, type Told, type Traffic } from './chronicle.js';

/** Draws one scenario as SVG: time runs to the right, each client's traffic is a band, each node's changes are a row. */

const WIDTH = 1100;
const LEFT = 90;
const RIGHT = 20;
const BAND = 34;
const ROW = 18;
const GAP_MS = 400;
/** Traffic is drawn in steps of this, ms, or longer ones where a scenario is long. */
const STEP_MS = 100;
const STEPS_AT_MOST = 700;

const COLOURS = {
  carried: '#2e8b57',
  lost: '#d9534f',
  fault: '#b22222',
  mend: '#1f6fb2',
  seen: '#777777',
  event: '#444444',
  grid: '#dddddd',
} as const;

export function renderTimeline(told: Told): string {
  const { traffic, marks, events } = told;
  const end = Math.max(1000, ...marks.map(({ atMs }) => atMs), ...traffic.map(({ sentMs }) => sentMs.at(-1) ?? 0));
  const x = (ms: number) => LEFT + ((WIDTH - LEFT - RIGHT) * Math.min(Math.max(ms, 0), end)) / end;
  const nodes = [...new Set(events.map(({ node }) => node))];
  const numbered = marks.filter(({ kind }) => kind !== 'seen');
  const top = 44;
  const bandsEnd = top + traffic.length * (BAND + 10);
  const rowsEnd = bandsEnd + nodes.length * ROW + 8;
  const height = rowsEnd + 26 + numbered.length * 15 + 8;
  const parts = [
    `<text x="8" y="18" font-size="14" font-weight="bold">${plain(`${told.id}  ${told.title}`)}</text>`,
    ...grid(end, x, top - 8, rowsEnd),
    ...traffic.flatMap((one, i) => band(one, end, x, top + i * (BAND + 10))),
    ...nodes.flatMap((node, i) => {
      const y = bandsEnd + i * ROW + 10;
      const ticks = events
        .filter((event) => event.node === node && event.atMs <= end)
        .map(
          ({ atMs, code, text }) =>
            `<circle cx="${n(x(atMs))}" cy="${y - 4}" r="3.5" fill="${COLOURS.event}"><title>${plain(
              `${inWords(atMs)}  ${code}: ${text}`,
            )}</title></circle>`,
        );
      return [`<text x="8" y="${y}" font-size="11">${plain(node)}</text>`, ...ticks];
    }),
    ...numbered.flatMap((mark, i) => line(mark, i + 1, x, top - 8, rowsEnd)),
    ...numbered.map(
      ({ atMs, kind, text }, i) =>
        `<text x="${LEFT}" y="${rowsEnd + 30 + i * 15}" font-size="11" fill="${COLOURS[kind]}">${plain(
          `${i + 1}  ${inWords(atMs)}: ${text}`,
        )}</text>`,
    ),
  ];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif">`,
    `<title>${plain(told.title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

type Scale = (ms: number) => number;

function grid(end: number, x: Scale, from: number, to: number): string[] {
  const every = [1, 2, 5, 10, 20, 30, 60].map((s) => s * 1000).find((ms) => end / ms <= 20) ?? 120_000;
  return Array.from({ length: Math.floor(end / every) + 1 }, (_, i) => i * every).flatMap((ms) => [
    `<line x1="${n(x(ms))}" y1="${from}" x2="${n(x(ms))}" y2="${to}" stroke="${COLOURS.grid}"/>`,
    `<text x="${n(x(ms))}" y="${to + 12}" font-size="10" fill="#777777" text-anchor="middle">${ms / 1000} s</text>`,
  ]);
}

/** How much of what was sent in each step came back; and the gaps between answers, with their lengths. */
function band({ client, sentMs, answeredMs }: Traffic, end: number, x: Scale, y: number): string[] {
  const step = Math.max(STEP_MS, end / STEPS_AT_MOST);
  const steps = Array.from({ length: Math.ceil(end / step) + 1 }, () => ({ sent: 0, back: 0 }));
  sentMs.forEach((at, i) => {
    const one = steps[Math.floor(Math.max(at, 0) / step)];
    if (one === undefined) return;
    one.sent++;
    if (answeredMs[i] !== null) one.back++;
  });
  const bars = steps.flatMap(({ sent, back }, i) => {
    if (sent === 0) return [];
    const [from, width] = [x(i * step), x((i + 1) * step) - x(i * step)];
    const good = (BAND * back) / sent;
    const bar = (top: number, high: number, colour: string) =>
      high <= 0
        ? []
        : [`<rect x="${n(from)}" y="${n(top)}" width="${n(width + 0.3)}" height="${n(high)}" fill="${colour}"/>`];
    return [...bar(y, BAND - good, COLOURS.lost), ...bar(y + BAND - good, good, COLOURS.carried)];
  });
  const answers = answeredMs.filter((at) => at !== null).sort((one, other) => one - other);
  const gaps = answers.flatMap((at, i) => {
    const before = answers[i - 1];
    return before === undefined || at - before <= GAP_MS ? [] : [{ from: before, to: at }];
  });
  const labels = gaps.map(
    ({ from, to }) =>
      `<text x="${n(x((from + to) / 2))}" y="${y + BAND / 2 + 4}" font-size="10" fill="#ffffff" text-anchor="middle">${inWords(to - from)}</text>`,
  );
  return [`<text x="8" y="${y + BAND / 2 + 4}" font-size="12">${plain(client)}</text>`, ...merged(bars), ...labels];
}

/** Bars that only differ in where they stand are drawn as one: a quiet minute is one rectangle. */
function merged(bars: readonly string[]): string[] {
  const shape = /x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" fill="(.*?)"/;
  const result: { x: number; end: number; rest: string }[] = [];
  for (const bar of bars) {
    const [, at = '', y = '', width = '', height = '', fill = ''] = shape.exec(bar) ?? [];
    const rest = `y="${y}" height="${height}" fill="${fill}"`;
    const last = result.at(-1);
    if (last !== undefined && last.rest === rest && Number(at) <= last.end + 0.1) last.end = Number(at) + Number(width);
    else result.push({ x: Number(at), end: Number(at) + Number(width), rest });
  }
  return result.map((one) => `<rect x="${n(one.x)}" width="${n(one.end - one.x)}" ${one.rest}/>`);
}

function line({ atMs, kind, text }: Mark, number: number, x: Scale, from: number, to: number): string[] {
  const at = n(x(atMs));
  return [
    `<line x1="${at}" y1="${from}" x2="${at}" y2="${to}" stroke="${COLOURS[kind]}" stroke-width="1.5"${
      kind === 'mend' ? ' stroke-dasharray="4 3"' : ''
    }><title>${plain(text)}</title></line>`,
    `<text x="${at}" y="${from - 2}" font-size="11" fill="${COLOURS[kind]}" text-anchor="middle">${number}</text>`,
  ];
}

const n = (value: number): string => (Math.round(value * 10) / 10).toString();

export const plain = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
