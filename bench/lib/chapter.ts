import { readFileSync, writeFileSync } from 'node:fs';

/** Puts text between `<!-- name -->` and `<!-- /name -->` of a Markdown file. Throws where the markers are not there. */
export function replaceSection(file: string, name: string, text: string): void {
  const before = readFileSync(file, 'utf8');
  const [start, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const from = before.indexOf(start);
  const to = before.indexOf(end);
  if (from < 0 || to < from) throw new Error(`${file} has no ${start} … ${end}`);
  writeFileSync(file, `${before.slice(0, from + start.length)}\n\n${text.trim()}\n\n${before.slice(to)}`);
}

export type Cell = string | number;

/** A Markdown table; numbers with three significant digits. */
export function markdownTable(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const line = (cells: readonly Cell[]) => `| ${cells.map((cell) => plain(cell)).join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n');
}

const plain = (cell: Cell): string => (typeof cell === 'number' ? figure(cell) : cell);

/** Three significant digits, thousands in full. */
export function figure(value: number): string {
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return value.toFixed(2);
}
