import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Machine, versions } from './machine.js';

/** One figure against what was promised. */
export interface Target {
  readonly what: string;
  readonly limit: number;
  readonly measured: number;
  readonly unit: string;
}

/** One benchmark's outcome, as it is kept. */
export interface Result<Summary = unknown> {
  readonly name: string;
  /** What gives these figures again. */
  readonly command: string;
  readonly configuration: Readonly<Record<string, unknown>>;
  readonly summary: Summary;
  readonly targets: readonly Target[];
  /** Everything that was measured, one by one. */
  readonly samples: Readonly<Record<string, unknown>>;
}

/** Beneath the directory that the benchmark runs in, which is the checkout when `make` runs it. */
const RESULTS = resolve('bench/results');

/** Where the result of this name is kept. */
export const resultFile = (name: string): string => join(RESULTS, `${name}.json`);

/** Keeps a result under its name and answers with the file. */
export function keep(result: Result, machine: Machine): string {
  mkdirSync(RESULTS, { recursive: true });
  const file = resultFile(result.name);
  const { name, command, configuration, summary, targets, samples } = result;
  const whole = {
    name,
    date: new Date().toISOString(),
    command,
    machine,
    versions: versions(),
    configuration,
    summary,
    targets: targets.map((target) => ({ ...target, holds: holds(target) })),
    samples,
  };
  writeFileSync(file, `${compact(whole)}\n`);
  return file;
}

export const holds = (target: Target): boolean => target.measured <= target.limit;

export type Row = readonly (string | number)[];

/** Columns as wide as their widest cell; numbers to the right. */
export function table(head: readonly string[], rows: readonly Row[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => (typeof cell === 'number' ? figure(cell) : cell)));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const lines = cells.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))),
  );
  return lines.map((line) => `  ${line.join('  ').trimEnd()}\n`).join('');
}

export function targetTable(targets: readonly Target[]): string {
  return table(
    ['target', 'limit', 'measured', ''],
    targets.map((one) => [
      one.what,
      `${figure(one.limit)} ${one.unit}`,
      `${figure(one.measured)} ${one.unit}`,
      holds(one) ? 'holds' : 'missed',
    ]),
  );
}

/** Three significant digits, and no more than two decimals. */
function figure(value: number): string {
  const size = Math.abs(value);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** JSON with a line for each short list, so that a hundred samples are not a hundred lines. */
function compact(value: unknown): string {
  return JSON.stringify(value, (_key, one: unknown) => (typeof one === 'number' ? rounded(one) : one), 2).replace(
    /\[\n\s+([-\d.,\s]+?)\n\s+\]/g,
    (_list, numbers: string) => `[${numbers.replace(/\s+/g, ' ')}]`,
  );
}

const rounded = (value: number): number => Math.round(value * 10_000) / 10_000;
