/** Small pieces of text for people. */

/** Columns as wide as their widest cell, two blanks apart; the heading above. */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [heading, ...rows];
  const widths = heading.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return `${all.map(line).join('\n')}\n`;
}

/** `3 d 4 h`, `2 h 5 min`, `45 s`: the two largest units. `elapsed` in milliseconds. */
export function age(elapsed: number): string {
  const total = Math.max(0, Math.round(elapsed / 1000));
  const parts: readonly (readonly [number, string])[] = [
    [Math.floor(total / 86_400), 'd'],
    [Math.floor(total / 3_600) % 24, 'h'],
    [Math.floor(total / 60) % 60, 'min'],
    [total % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return '0 s';
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}

/** `12.3 MiB`. */
export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`;
}

/** `2025-03-01 12:00 UTC`; `-` for zero, which the API writes where there is no time. */
export const moment = (epochMs: number): string =>
  epochMs === 0 ? '-' : `${new Date(epochMs).toISOString().slice(0, 16).replace('T', ' ')} UTC`;

/** `2025-03-01 12:00:09 UTC`. */
export const second = (epochMs: number): string =>
  Math.abs(epochMs) <= LAST_DATE
    ? `${new Date(epochMs).toISOString().slice(0, 19).replace('T', ' ')} UTC`
    : `${epochMs} ms`;
/** What others wrote may be further away than a Date can be (ECMA-262, 21.4.1.1). */
const LAST_DATE = 8.64e15;

export const latency = (value: number): string =>
  value > 0 ? `${value < 10 ? value.toFixed(1) : Math.round(value)} ms` : '-';

/** Text from another machine, without what could steer a terminal. */
export const plain = (text: string): string => text.replace(/[\p{Cc}\p{Cf}]/gu, '?');
