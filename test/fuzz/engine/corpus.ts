import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Inputs worth keeping, one file for each target, one line for each input: its bytes as text, those that are no printable
 * ASCII as \xNN. Sorted, so that a change shows as what it is.
 */
export const CORPUS = 'test/fuzz/corpus';

const pathOf = (folder: string, target: string): string => join(folder, `${target}.txt`);

/** Nothing where the target has none yet. */
export function readCorpus(target: string, folder = CORPUS): readonly Uint8Array[] {
  let text: string;
  try {
    text = readFileSync(pathOf(folder, target), 'latin1');
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw thrown;
  }
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map(unescaped);
}

/** Characters of one input, and of a target's file: beyond these a corpus is no help to who reads it. */
const MOST_EACH = 3_000;
const MOST_ALL = 48_000;

/** Keeps the shortest ones, as far as there is room; each once. */
export function writeCorpus(target: string, inputs: readonly Uint8Array[], folder = CORPUS): void {
  mkdirSync(folder, { recursive: true });
  const lines = [...new Set(inputs.map(escaped))].filter((line) => line !== '' && line.length <= MOST_EACH);
  lines.sort((a, b) => a.length - b.length || (a < b ? -1 : 1));
  let room = MOST_ALL;
  const kept = lines.filter((line) => {
    room -= line.length + 1;
    return room >= 0;
  });
  writeFileSync(pathOf(folder, target), kept.map((line) => `${line}\n`).join(''), 'latin1');
}

export const escaped = (input: Uint8Array): string =>
  Array.from(input, (byte) =>
    byte >= 0x20 && byte < 0x7f && byte !== 0x5c
      ? String.fromCharCode(byte)
      : `\\x${byte.toString(16).padStart(2, '0')}`,
  ).join('');

export const unescaped = (line: string): Uint8Array =>
  Buffer.from(
    line.replace(/\\x([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  );
