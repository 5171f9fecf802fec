import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { replaceSection } from '../lib/chapter.js';
import { type Bar, barChart } from '../lib/plot.js';
import { resultFile } from '../lib/report.js';
import { recoveryChapter } from './recovery/chapter.js';
import { relayChapter } from './relay/chapter.js';
import { streamsChapter } from './streams/chapter.js';
import { tunnelChapter } from './tunnel/chapter.js';

const PAGE = resolve('docs/performance.md');

/** A kept result, as far as the chapter reads it. */
export interface Kept<Summary> {
  readonly date: string;
  readonly command: string;
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly kernel: string;
    readonly othersCpus: number;
  };
  readonly configuration: {
    readonly rounds: number;
    readonly packages: Readonly<Record<string, string>>;
    readonly [other: string]: unknown;
  };
  readonly summary: Summary;
  readonly targets: readonly {
    readonly what: string;
    readonly limit: number;
    readonly measured: number;
    readonly unit: string;
    readonly holds: boolean;
  }[];
}

/** Writes the generated part of docs/performance.md, and the plots, from what is kept. Answers with the file. */
export function writeChapter(): string {
  const parts = [
    section('beside-relay', relayChapter),
    section('beside-tunnel', tunnelChapter),
    section('beside-streams', streamsChapter),
    section('beside-recovery', recoveryChapter),
  ];
  replaceSection(PAGE, 'beside', parts.filter((text) => text !== '').join('\n\n'));
  return PAGE;
}

function section<Summary>(name: string, write: (kept: Kept<Summary>) => string): string {
  const file = resultFile(name);
  return existsSync(file) ? write(JSON.parse(readFileSync(file, 'utf8')) as Kept<Summary>) : '';
}

/** Keeps a plot beside the results; answers with the Markdown that shows it. */
export function plot(
  name: string,
  title: string,
  unit: string,
  bars: readonly Bar[],
  show: (value: number) => string,
): string {
  const file = join(dirname(resultFile(name)), `${name}.svg`);
  writeFileSync(file, barChart(title, unit, bars, show));
  return `![${title}](../bench/results/${basename(file)})`;
}

/** One line about where figures come from. */
export function origin(kept: Kept<unknown>, name: string): string {
  const { command, date, machine, configuration } = kept;
  const rounds = configuration.rounds === 1 ? 'one round' : `${configuration.rounds} interleaved rounds`;
  return (
    `\`${command}\`, ${date.slice(0, 10)}, ${rounds}; others used ${machine.othersCpus} CPUs when it began. ` +
    `[Configuration, versions, every measurement](../bench/results/${name}.json).`
  );
}

/** As targets are judged: at most the limit. */
export const judged = (kept: Kept<unknown>): string =>
  kept.targets
    .map(
      ({ what, limit, measured, unit, holds }) =>
        `- ${what}: ${measured.toFixed(2)} ${unit}, at most ${limit.toFixed(2)}: **${holds ? 'holds' : 'missed'}**`,
    )
    .join('\n');
