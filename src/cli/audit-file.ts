import { readFileSync } from 'node:fs';
import type { FoundChain } from '../core/audit-chain.js';
import type { AuditEntry, AuditSeal } from '../core/ports/audit.js';
import { type Bytes, fromHex, toHex } from '../model/bytes.js';
import { VpndError } from '../model/errors.js';
import { type PeerId, parsePeerId } from '../model/ids.js';
import { instantOf } from '../model/time.js';

/**
 * An audit log as a file for other places: a line of JSON about the whole (`format`, `node`, seals), then one for each
 * entry, hashes in hexadecimal and times in milliseconds since the Unix epoch. `detail` is the text that was hashed.
 */
const FORMAT = 'vpnd-audit-1';

export function* exportLines(chain: FoundChain, node: PeerId): Generator<string> {
  const { head, anchor, checkpoints } = chain;
  yield `${JSON.stringify({
    format: FORMAT,
    node,
    head: head && sealJson(head),
    anchor: anchor && sealJson(anchor),
    checkpoints: checkpoints.map(sealJson),
  })}\n`;
  for (const entry of chain.entries) yield `${JSON.stringify(entryJson(entry))}\n`;
}

export const entryJson = (entry: AuditEntry): Readonly<Record<string, unknown>> => ({
  sequence: entry.sequence,
  at_ms: entry.at,
  by: entry.by,
  code: entry.code,
  on: entry.on,
  detail: entry.detail,
  previous: toHex(entry.previous),
  hash: toHex(entry.hash),
});

const sealJson = ({ sequence, hash, at, signature }: AuditSeal) => ({
  sequence,
  at_ms: at,
  hash: toHex(hash),
  signature: toHex(signature),
});

/** What `exportLines` wrote, in a file. Throws VpndError `bad-config`. */
export function readExport(path: string): ExportedChain {
  try {
    return parseExport(readFileSync(path, 'utf8'), path);
  } catch (cause) {
    if (cause instanceof VpndError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error';
    throw new VpndError('bad-config', `--file: '${path}' cannot be read (${code})`, { cause });
  }
}

export interface ExportedChain {
  readonly node: PeerId;
  readonly chain: FoundChain;
}

/** Throws VpndError `bad-config` for what `exportLines` did not write; what is inside is for verifyChain to judge. */
export function parseExport(text: string, path: string): ExportedChain {
  const lines = text.trimEnd().split('\n');
  const fail = (line: number): never => {
    throw new VpndError('bad-config', `--file: line ${line} of '${path}' is not of an exported audit log`);
  };
  const objects = lines.map((line, i) => objectIn(line) ?? fail(i + 1));
  const top = objects[0] ?? fail(1);
  const node = parsePeerId(typeof top.node === 'string' ? top.node : '');
  if (top.format !== FORMAT || !node.ok || !Array.isArray(top.checkpoints)) return fail(1);
  const seal = (value: unknown): AuditSeal | undefined =>
    value === undefined ? undefined : (sealOf(value) ?? fail(1));
  return {
    node: node.value,
    chain: {
      head: seal(top.head),
      anchor: seal(top.anchor),
      checkpoints: top.checkpoints.map((one: unknown) => sealOf(one) ?? fail(1)),
      entries: objects.slice(1).map((one, i) => entryOf(one) ?? fail(i + 2)),
    },
  };
}

type Fields = Readonly<Record<string, unknown>>;

function objectIn(line: string): Fields | undefined {
  try {
    return fieldsOf(JSON.parse(line));
  } catch {
    return undefined;
  }
}

const fieldsOf = (value: unknown): Fields | undefined =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;

function sealOf(value: unknown): AuditSeal | undefined {
  const { sequence, at_ms: at, hash, signature } = fieldsOf(value) ?? {};
  const [ends, signed] = [bytesIn(hash), bytesIn(signature)];
  if (!isCount(sequence) || !isCount(at) || ends === undefined || signed === undefined) return undefined;
  return { sequence, at: instantOf(at), hash: ends, signature: signed };
}

function entryOf({ sequence, at_ms: at, by, code, on, detail, previous, hash }: Fields): AuditEntry | undefined {
  const [before, own] = [bytesIn(previous), bytesIn(hash)];
  if (!isCount(sequence) || !isCount(at) || before === undefined || own === undefined) return undefined;
  if (typeof by !== 'string' || typeof code !== 'string' || typeof on !== 'string' || typeof detail !== 'string')
    return undefined;
  return { sequence, at: instantOf(at), by, code, on, detail, previous: before, hash: own };
}

const bytesIn = (value: unknown): Bytes | undefined => (typeof value === 'string' ? fromHex(value) : undefined);
const isCount = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value);
