import { VpndError } from '../src/model/errors.js';
import type { Runner } from './run.js';

export type NftFamily = 'ip' | 'ip6' | 'inet' | 'arp';

/** Elements by set or map: key as nft writes it (`40001 . 203.0.113.7`), and a map's value. */
export type NftElements = ReadonlyMap<string, ReadonlyMap<string, string>>;

/** Undefined where there is no such table. */
export async function listElements(runner: Runner, family: NftFamily, name: string): Promise<NftElements | undefined> {
  const text = await unlessAbsent(runner.run('nft', ['-j', '-n', 'list', 'table', family, name]));
  return text === undefined ? undefined : parseElements(text);
}

/**
 * Everything of a table but its name, elements and counters, one line each; undefined where there is no such table. As
 * text, since nft's JSON leaves out some statements, and 1.0.6 breaks it for a dormant table.
 */
export async function listStructure(runner: Runner, family: NftFamily, name: string): Promise<string | undefined> {
  const text = await unlessAbsent(runner.run('nft', ['-n', '-s', '-t', 'list', 'table', family, name]));
  return text
    ?.split('\n')
    .slice(1)
    .map((line) => line.trim())
    .filter((line) => line !== '' && line !== 'flags dormant')
    .join('\n');
}

/** Names of the tables of one family. */
export async function listTables(runner: Runner, family: NftFamily): Promise<readonly string[]> {
  const items = field(parse(await runner.run('nft', ['-j', 'list', 'tables', family])), 'nftables') as readonly Json[];
  return items.flatMap((item) => {
    const table = isObject(item) ? item.table : undefined;
    return isObject(table) && typeof table.name === 'string' ? [table.name] : [];
  });
}

/** What a counter has seen. */
export interface Count {
  readonly packets: number;
  readonly bytes: number;
}

/** By counter; undefined where there is no such table. */
export async function listCounts(
  runner: Runner,
  family: NftFamily,
  name: string,
): Promise<ReadonlyMap<string, Count> | undefined> {
  const text = await unlessAbsent(runner.run('nft', ['-j', 'list', 'counters', 'table', family, name]));
  if (text === undefined) return undefined;
  const counters = new Map<string, Count>();
  for (const item of field(parse(text), 'nftables') as readonly Json[]) {
    const counter = isObject(item) ? item.counter : undefined;
    if (!isObject(counter) || typeof counter.name !== 'string') continue;
    counters.set(counter.name, { packets: numberIn(counter.packets), bytes: numberIn(counter.bytes) });
  }
  return counters;
}

/** Packets by counter; undefined where there is no such table. */
export async function listCounters(
  runner: Runner,
  family: NftFamily,
  name: string,
): Promise<ReadonlyMap<string, number> | undefined> {
  const counts = await listCounts(runner, family, name);
  return counts && new Map([...counts].map(([counter, { packets }]) => [counter, packets]));
}

async function unlessAbsent(answer: Promise<string>): Promise<string | undefined> {
  try {
    return await answer;
  } catch (thrown) {
    if (thrown instanceof VpndError && /No such file or directory/.test(thrown.message)) return undefined;
    throw thrown;
  }
}

/** One transaction: all of it or nothing. */
export async function runNft(runner: Runner, text: string): Promise<void> {
  await runner.run('nft', ['-f', '-'], { input: text });
}

/**
 * How this kernel and this nft write a table down after they took `text`. Comparing what is there with what was meant
 * then needs no knowledge of nft's spelling, which changes between versions. The table lives for a moment under a
 * name of its own and dormant, so that it touches no packet.
 */
export async function canonicalStructure(
  runner: Runner,
  family: NftFamily,
  render: (name: string, flags: string) => string,
): Promise<string> {
  const scratch = `vpnd_scratch_${process.pid}`;
  const remove = `table ${family} ${scratch} {}\ndelete table ${family} ${scratch}\n`;
  await runNft(runner, `${remove}${render(scratch, '  flags dormant\n')}`);
  try {
    const structure = await listStructure(runner, family, scratch);
    if (structure === undefined) throw new VpndError('dataplane', 'nft lost a table that it had just made');
    return structure;
  } finally {
    await runNft(runner, remove);
  }
}

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** Reads `nft -j list table`. Throws VpndError `dataplane` for anything that is not that. */
export function parseElements(text: string): NftElements {
  const elements = new Map<string, ReadonlyMap<string, string>>();
  for (const item of field(parse(text), 'nftables') as readonly Json[]) {
    const [kind, body] = isObject(item) ? (Object.entries(item)[0] ?? []) : [];
    if ((kind !== 'set' && kind !== 'map') || !isObject(body) || typeof body.name !== 'string') continue;
    elements.set(body.name, readElements(Array.isArray(body.elem) ? body.elem : []));
  }
  return elements;
}

function readElements(list: readonly Json[]): Map<string, string> {
  const out = new Map<string, string>();
  for (const item of list) {
    if (Array.isArray(item)) out.set(keyText(item[0]), keyText(item[1]));
    else out.set(keyText(item), '');
  }
  return out;
}

/** An element in a concatenation of ranges of networks is three deep. */
const DEEPEST = 6;

/** `{"elem": {"val": ..., "expires": 2}}`, `{"concat": [1, "a"]}`, or a plain value. */
function keyText(value: Json | undefined, depth = 0): string {
  const inner = (part: Json | undefined): string => keyText(part, depth + 1);
  if (isObject(value) && depth < DEEPEST) {
    if (isObject(value.elem)) return inner(value.elem.val);
    if (Array.isArray(value.concat)) return value.concat.map(inner).join(' . ');
    if (isObject(value.prefix)) return `${inner(value.prefix.addr)}/${inner(value.prefix.len)}`;
    if (Array.isArray(value.range)) return value.range.map(inner).join('-');
  }
  if (typeof value === 'string' || typeof value === 'number') return String(value);
  throw new VpndError('dataplane', 'nft listed an element of unknown shape');
}

function parse(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch (cause) {
    throw new VpndError('dataplane', 'nft answered something that is not JSON', { cause });
  }
}

function field(value: Json, name: string): Json {
  if (isObject(value) && Array.isArray(value[name])) return value[name] as Json;
  throw new VpndError('dataplane', `nft answered without ${name}`);
}

function numberIn(value: Json | undefined): number {
  if (typeof value === 'number') return value;
  throw new VpndError('dataplane', 'nft listed a counter that is no number');
}

const isObject = (value: Json | undefined): value is { readonly [key: string]: Json } =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
