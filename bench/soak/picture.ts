/** Lines over time as SVG, one panel beneath the other; plain text, no dependency. */

export interface Line {
  readonly name: string;
  /** Hours and values; a line is broken where `life` changes. */
  readonly points: readonly { readonly hour: number; readonly value: number; readonly life: number }[];
}

export interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly lines: readonly Line[];
}

/** A moment worth a mark in every panel. */
export interface Mark {
  readonly hour: number;
  readonly title: string;
}

const WIDTH = 960;
const LEFT = 64;
const RIGHT = 150;
const PLOT = 150;
const HEAD = 34;
const FOOT = 26;
/** Told apart by people who see no red and green, too (Okabe and Ito). */
const COLOURS = [
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#e69f00',
  '#56b4e9',
  '#000000',
  '#999999',
  '#8c564b',
  '#6a3d9a',
] as const;

export function draw(title: string, panels: readonly Panel[], marks: readonly Mark[]): string {
  const hours = Math.max(
    1e-6,
    ...panels.flatMap((panel) => panel.lines.flatMap((line) => line.points.map((one) => one.hour))),
  );
  const step = HEAD + PLOT + FOOT;
  const height = 40 + panels.length * step;
  const x = (hour: number) => LEFT + (hour / hours) * (WIDTH - LEFT - RIGHT);
  const body = panels.map((panel, i) => drawn(panel, 40 + i * step + HEAD, x, hours, marks)).join('');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="11">
<title>${escaped(title)}</title>
<rect width="100%" height="100%" fill="#fff"/>
<text x="${LEFT}" y="24" font-size="16">${escaped(title)}</text>
${body}</svg>
`;
}

function drawn(panel: Panel, top: number, x: (hour: number) => number, hours: number, marks: readonly Mark[]): string {
  const most = Math.max(1e-9, ...panel.lines.flatMap(({ points }) => points.map((one) => one.value)));
  const ceiling = rounded(most);
  const y = (value: number) => top + PLOT - (value / ceiling) * PLOT;
  const right = WIDTH - RIGHT;
  const grid = [0, 0.5, 1].map((share) => {
    const at = y(ceiling * share);
    return `<line x1="${LEFT}" x2="${right}" y1="${at}" y2="${at}" stroke="#ddd"/><text x="${LEFT - 6}" y="${at + 4}" text-anchor="end">${figure(ceiling * share)}</text>`;
  });
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => {
    const at = x(hours * share);
    return `<text x="${at}" y="${top + PLOT + 15}" text-anchor="middle">${figure(hours * share * 60)} min</text>`;
  });
  const faults = marks.map(
    ({ hour, title }) =>
      `<line x1="${n(x(hour))}" x2="${n(x(hour))}" y1="${top}" y2="${top + PLOT}" stroke="#f3c6c6"><title>${escaped(title)}</title></line>`,
  );
  const lines = panel.lines.map(({ name, points }, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const label = `<text x="${right + 8}" y="${top + 12 + i * 14}" fill="${colour}">${escaped(name)}</text>`;
    return `<path d="${path(points, x, y)}" fill="none" stroke="${colour}" stroke-width="1.3"/>${label}`;
  });
  const unit = panel.unit === '' ? '' : `, ${panel.unit}`;
  return `<text x="${LEFT}" y="${top - 10}" font-size="13">${escaped(panel.title + unit)}</text>
${[...grid, ...ticks, ...faults, ...lines].join('\n')}
`;
}

function path(points: Line['points'], x: (hour: number) => number, y: (value: number) => number): string {
  let life: number | undefined;
  return points
    .map((one) => {
      const verb = one.life === life ? 'L' : 'M';
      life = one.life;
      return `${verb}${n(x(one.hour))} ${n(y(one.value))}`;
    })
    .join('');
}

/** The next of 1, 2, 5, 10, 20, … */
function rounded(most: number): number {
  const size = 10 ** Math.floor(Math.log10(most));
  return ([1, 2, 5, 10].find((times) => times * size >= most) ?? 10) * size;
}

const n = (value: number): string => String(Math.round(value * 10) / 10);
const figure = (value: number): string => (value >= 10 ? value.toFixed(0) : String(Math.round(value * 100) / 100));
const escaped = (text: string): string => text.replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`);
