import { NUMBERS } from './mutate-bytes.js';
import type { Chance } from './random.js';

/** Characters that programs trip over: ends of lines, quotes, NUL, half a surrogate pair, direction marks, combining ones. */
const NASTY: readonly string[] = [
  ...['\0', '\n', '\r\n', '\t', ' ', '"', "'", '\\', '/', '%', '=', ':', ',', '.', '-', '[', ']', '{', '}', '#', '@'],
  ...['\u0085', '\u2028', '\u200b', '\u202e', '\ufeff', '\ud800', '\udfff', '\u0301', '😀', 'İ', 'ß', '٣', '１'],
  ...['__proto__', 'constructor', 'toString', 'null', 'undefined', 'NaN', '-1', '1e999', '0x10', '٠'],
];

/** One change to a text. `words` are the format's own; `other` is another input. */
export function mutateText(input: string, other: string, words: readonly string[], chance: Chance): string {
  const at = chance.below(input.length + 1);
  const length = chance.length(24) + 1;
  switch (chance.below(15)) {
    case 0:
      return input.slice(0, at);
    case 1:
      return input.slice(0, at) + input.slice(at + length);
    case 2:
    case 3:
      return input.slice(0, at) + chance.of(NASTY) + input.slice(at + chance.below(2));
    case 4:
    case 5:
      if (words.length === 0) return input + chance.of(NASTY);
      return input.slice(0, at) + chance.of(words) + input.slice(at + (chance.oneIn(2) ? 0 : length));
    case 6:
      return (
        input.slice(0, at) + String.fromCharCode(chance.below(chance.oneIn(4) ? 65_536 : 128)) + input.slice(at + 1)
      );
    case 7: {
      const times = chance.oneIn(60) ? chance.below(6_000) : chance.below(5) + 1;
      return input.slice(0, at) + input.slice(at, at + length).repeat(times) + input.slice(at);
    }
    case 8: {
      const from = chance.below(other.length + 1);
      return input.slice(0, at) + other.slice(from, from + chance.length(200) + 1) + input.slice(at);
    }
    case 9:
    case 10:
      return changeNumber(input, chance);
    case 11:
    case 12:
      return changeLines(input, other, chance);
    case 13:
      return swapWords(input, chance);
    default:
      return chance.oneIn(2) ? input.toUpperCase() : input.replaceAll(chance.of(NASTY), chance.of(NASTY));
  }
}

function changeNumber(input: string, chance: Chance): string {
  const found = [...input.matchAll(/\d+/g)];
  if (found.length === 0) return input + String(chance.of(NUMBERS));
  const { 0: digits, index } = chance.of(found);
  const written = chance.of([
    String(chance.of(NUMBERS)),
    `-${digits}`,
    `0${digits}`,
    `${digits}.5`,
    `${digits}${digits}`,
    '9'.repeat(chance.length(40) + 1),
    String(Number(digits) + 1),
  ]);
  return input.slice(0, index) + written + input.slice(index + digits.length);
}

function changeLines(input: string, other: string, chance: Chance): string {
  const lines = input.split('\n');
  const at = chance.below(lines.length);
  switch (chance.below(4)) {
    case 0:
      lines.splice(at, 1);
      break;
    case 1:
      lines.splice(at, 0, ...Array.from({ length: chance.below(4) + 1 }, () => lines[at] as string));
      break;
    case 2: {
      const place = chance.below(lines.length);
      [lines[at], lines[place]] = [lines[place] as string, lines[at] as string];
      break;
    }
    default:
      lines.splice(at, chance.below(2), chance.of(other.split('\n')));
  }
  return lines.join('\n');
}

function swapWords(input: string, chance: Chance): string {
  const words = input.split(/(\s+|[=:,])/);
  const [a, b] = [chance.below(words.length), chance.below(words.length)];
  [words[a], words[b]] = [words[b] as string, words[a] as string];
  return words.join('');
}
