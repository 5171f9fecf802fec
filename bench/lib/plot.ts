/** Bars with a whisker from the lowest to the highest measurement, as an SVG that needs nothing else. */

export interface Bar {
  readonly label: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Drawn in the colour of what the page is about. */
  readonly ours?: boolean;
}

const LABEL_WIDTH = 220;
const BAR_WIDTH = 420;
const VALUE_WIDTH = 110;
const ROW = 26;
const TOP = 44;
const COLOURS = { ours: '#2a6f97', others: '#a9b4bd', whisker: '#333333', text: '#222222' };

/** `unit` stands behind the title; `show` writes a value beside its bar. */
export function barChart(title: string, unit: string, bars: readonly Bar[], show: (value: number) => string): string {
  const most = Math.max(...bars.map((bar) => bar.max), Number.MIN_VALUE);
  const x = (value: number): string => (LABEL_WIDTH + (BAR_WIDTH * Math.max(0, value)) / most).toFixed(1);
  const width = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH;
  const height = TOP + ROW * bars.length + 12;
  const rows = bars.map((bar, i) => {
    const y = TOP + i * ROW;
    const middle = y + ROW / 2 - 3;
    const colour = bar.ours ? COLOURS.ours : COLOURS.others;
    const end = (Number(x(bar.median)) - LABEL_WIDTH).toFixed(1);
    return [
      `<text x="${LABEL_WIDTH - 8}" y="${middle + 4}" text-anchor="end">${escaped(bar.label)}</text>`,
      `<rect x="${LABEL_WIDTH}" y="${y}" width="${end}" height="${ROW - 8}" fill="${colour}"/>`,
      `<path d="M${x(bar.min)} ${middle}H${x(bar.max)}M${x(bar.min)} ${middle - 4}v8M${x(bar.max)} ${middle - 4}v8" stroke="${COLOURS.whisker}" fill="none"/>`,
      `<text x="${Number(x(bar.max)) + 8}" y="${middle + 4}">${escaped(show(bar.median))}</text>`,
    ].join('\n');
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13" fill="${COLOURS.text}">
<title>${escaped(title)}</title>
<rect width="${width}" height="${height}" fill="#ffffff"/>
<text x="12" y="24" font-size="15" font-weight="bold">${escaped(title)} <tspan font-weight="normal" font-size="13">(${escaped(unit)})</tspan></text>
${rows.join('\n')}
</svg>
`;
}

const escaped = (text: string): string => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
