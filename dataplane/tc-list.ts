import { type IpAddress, parseIp } from '../src/model/address.js';
import type { ClassId, Leaf, SideState } from './tc-text.js';

/** What `tc` shows of one side: with `qdisc show`, `class show` and `filter show … parent 1:`. */
export interface SideListing {
  readonly qdiscs: string;
  readonly classes: string;
  readonly filters: string;
}

export interface ReadSide extends SideState {
  /** The queue in front and the tables of filters are ours and whole. */
  readonly framed: boolean;
  /** Queues of classes. */
  readonly leaves: ReadonlyMap<ClassId, Leaf>;
}

/** Reads a side. What is not ours to make is not in it. */
export function parseSide({ qdiscs, classes, filters }: SideListing): ReadSide {
  const framed =
    /^qdisc htb 1: root .*\bdefault 0x1\b/m.test(qdiscs) &&
    /\bfh 10: ht divisor 256/.test(filters) &&
    /\bfh 11: ht divisor 256/.test(filters) &&
    /\blink 10:/.test(filters) &&
    /\blink 11:/.test(filters);
  const leaves = new Map<ClassId, Leaf>();
  for (const [, leaf, id] of qdiscs.matchAll(/^qdisc (fq_codel|bfifo) \S+ parent 1:([0-9a-f]+)\b/gm)) {
    leaves.set(Number.parseInt(id ?? '', 16), leaf as Leaf);
  }
  const found = new Map<ClassId, { rate: number; ceil: number }>();
  for (const [, id, rate, ceil] of classes.matchAll(/^class htb 1:([0-9a-f]+) .*?\brate (\S+) ceil (\S+)/gm)) {
    found.set(Number.parseInt(id ?? '', 16), { rate: parseRate(rate), ceil: parseRate(ceil) });
  }
  return { framed, leaves, classes: found, filters: parseFilters(filters) };
}

function parseFilters(text: string): Map<IpAddress, { node: string; classId: ClassId }> {
  const filters = new Map<IpAddress, { node: string; classId: ClassId }>();
  for (const part of text.split(/^filter /m)) {
    const [, table, bucket, number, id] =
      /\bfh (10|11):([0-9a-f]+):([0-9a-f]+) .*\bflowid 1:([0-9a-f]+)/.exec(part) ?? [];
    if (id === undefined) continue;
    const words = [...part.matchAll(/^ +match ([0-9a-f]{8})\/ffffffff at \d+/gm)].map(([, word = '']) => word);
    const address = addressOf(words);
    if (address !== undefined) {
      filters.set(address, { node: `${table}:${bucket}:${number}`, classId: Number.parseInt(id, 16) });
    }
  }
  return filters;
}

function addressOf(words: readonly string[]): IpAddress | undefined {
  const digits = words.join('');
  const text =
    words.length === 1
      ? [0, 2, 4, 6].map((at) => Number.parseInt(digits.slice(at, at + 2), 16)).join('.')
      : [0, 4, 8, 12, 16, 20, 24, 28].map((at) => digits.slice(at, at + 4)).join(':');
  const parsed = parseIp(text);
  return parsed.ok ? parsed.value : undefined;
}

const UNITS: Readonly<Record<string, number>> = { bit: 0.001, Kbit: 1, Mbit: 1_000, Gbit: 1_000_000 };

/** kbit/s of `10Mbit`; tc leaves out what is below a thousandth. */
function parseRate(text: string | undefined): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(bit|Kbit|Mbit|Gbit)$/.exec(text ?? '') ?? [];
  return number === undefined ? Number.NaN : Number(number) * (UNITS[unit ?? ''] ?? Number.NaN);
}

/** Whether what tc shows is what was asked for. */
export const sameRate = (shown: number, asked: number): boolean => Math.abs(shown - asked) <= asked / 500;
