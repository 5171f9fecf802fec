import { NUMBERS } from './mutate-bytes.js';
import { mutateText } from './mutate-text.js';
import type { Chance } from './random.js';

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
/** A place in a value: what holds it, and under which key. */
interface Place {
  readonly holder: Json[] | { [key: string]: Json };
  readonly key: string | number;
}

/** One change to a value in JSON, so that what comes out is JSON again; to its text where it is none, and now and then. */
export function mutateJson(input: string, other: string, words: readonly string[], chance: Chance): string {
  const value = parsed(input);
  if (chance.oneIn(100)) return deep(input, chance);
  if (value === undefined || chance.oneIn(8)) return mutateText(input, other, words, chance);
  const root: [Json] = [value];
  const places: Place[] = [{ holder: root, key: 0 }];
  collect(value, places);
  change(chance.of(places), places, other, words, chance);
  const text = JSON.stringify(root[0] ?? null);
  // JSON.stringify leaves out what JSON.parse gives under this name.
  return chance.oneIn(40) ? text.replace(/"[^"]*":/, '"__proto__":') : text;
}

/** Deeper than any stack, in the place of a value: by text, since JSON.stringify has a stack of its own. */
function deep(input: string, chance: Chance): string {
  const depth = chance.length(12_000);
  const [open, close] = chance.of([
    ['[', ']'],
    ['{"elem":', '}'],
    ['{"a":', '}'],
  ] as const);
  const nested = `${open.repeat(depth)}1${close.repeat(depth)}`;
  const values = [...input.matchAll(/(?<=[:,[])(?:-?\d+|"[^"]*"|null|true|false)(?=[,\]}])/g)];
  if (values.length === 0) return nested;
  const { 0: value, index } = chance.of(values);
  return input.slice(0, index) + nested + input.slice(index + value.length);
}

/** Undefined for what is no JSON, and for what is deeper than a program that changes it can go. */
function parsed(text: string): Json | undefined {
  if (/[[{]{200}|(?:\{"\w*":){200}/.test(text)) return undefined;
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

function collect(value: Json, places: Place[]): void {
  if (typeof value !== 'object' || value === null || places.length > 2_000) return;
  if (Array.isArray(value)) {
    for (const [key, item] of value.entries()) {
      places.push({ holder: value, key });
      collect(item, places);
    }
    return;
  }
  for (const [key, item] of Object.entries(value)) {
    places.push({ holder: value, key });
    collect(item, places);
  }
}

const get = ({ holder, key }: Place): Json => (holder as { [key: string]: Json })[key] as Json;
const set = ({ holder, key }: Place, value: Json): void => {
  (holder as { [key: string]: Json })[key] = value;
};

function change(place: Place, places: readonly Place[], other: string, words: readonly string[], chance: Chance): void {
  const value = get(place);
  const next = replacement(value, places, other, words, chance);
  if (next !== undefined) set(place, next);
  else if (Array.isArray(place.holder)) place.holder.splice(Number(place.key), 1);
  else delete place.holder[place.key];
}

/** What stands there instead; undefined for nothing. */
function replacement(
  value: Json,
  places: readonly Place[],
  other: string,
  words: readonly string[],
  chance: Chance,
): Json | undefined {
  switch (chance.below(10)) {
    case 0:
      return undefined;
    case 1:
    case 2:
      return strange(words, chance);
    case 3:
      return structuredClone(get(chance.of(places)));
    case 4: {
      const found: Place[] = [];
      collect(parsed(other) ?? null, found);
      return found.length === 0 ? value : get(chance.of(found));
    }
    case 5: {
      const more = chance.oneIn(60) ? chance.below(3_000) : 2;
      if (Array.isArray(value)) return [...value, ...Array.from({ length: more }, () => value[0] ?? null)];
      if (typeof value === 'object' && value !== null)
        return { ...value, [chance.of([...words, 'x', ''])]: strange(words, chance) };
      return value;
    }
    case 6: {
      let nested = value;
      for (let depth = chance.below(6) + 1; depth > 0; depth--)
        nested = chance.oneIn(2) ? [nested] : { [words[0] ?? 'a']: nested };
      return nested;
    }
    case 7:
      return chance.oneIn(2) ? [value] : JSON.stringify(value);
    default:
      if (typeof value === 'string') return mutateText(value, other, words, chance);
      if (typeof value === 'number') return chance.of([...NUMBERS, -1, 0.5, 1e21, -0]);
      return strange(words, chance);
  }
}

function strange(words: readonly string[], chance: Chance): Json {
  return chance.of<() => Json>([
    () => null,
    () => chance.oneIn(2),
    () => chance.of(NUMBERS),
    () => -chance.of(NUMBERS),
    () => '',
    () => (words.length === 0 ? 'x' : chance.of(words)),
    () => [],
    () => ({}),
    () => [[]],
    // Has no text at all: String() of it throws.
    () => ({ toString: 1, valueOf: 1 }),
    () => ({ length: 2 ** 31 }),
    () => 'x'.repeat(chance.length(5_000)),
  ])();
}
