import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { duration, integer } from '../config/values.js';
import { type FoundChain, type KnownPoint, verifyChain } from '../core/audit-chain.js';
import type { AuditEntry } from '../core/ports/audit.js';
import { openSodium } from '../identity/sodium.js';
import { openStateDir } from '../identity/state-dir.js';
import { toHex } from '../model/bytes.js';
import { VpndError } from '../model/errors.js';
import { keyOf, type PeerId, parsePeerId } from '../model/ids.js';
import { days, seconds } from '../model/time.js';
import { entriesOf } from '../obs/audit.js';
import { openAuditReader } from '../store/sqlite/audit-reader.js';
import { entryJson, exportLines, readExport } from './audit-file.js';
import { type ExitStatus, type Io, UsageError } from './io.js';
import { plain, second } from './text.js';
import { check } from './up.js';

interface Place {
  readonly stateDir?: string;
  readonly role?: string;
}
interface ShowOptions extends Place {
  readonly since?: string;
  readonly limit: string;
  readonly json?: boolean;
}
interface VerifyOptions extends Place {
  readonly file?: string;
  readonly node?: string;
  readonly checkpoint?: readonly string[];
  readonly json?: boolean;
}

/** Those that keep an audit log. */
const KEEPERS = ['base', 'supernode'];
const STATE_ROOT = '/var/lib/vpnd';

const withPlace = (command: Command): Command =>
  command
    .option('--state-dir <dir>', 'state directory of base or the supernode; it may be stopped')
    .option('--role <role>', `base or supernode: the state directory of that name below ${STATE_ROOT}`);

export function auditCommand(program: Command, io: Io, outcome: { status: ExitStatus }): void {
  const audit = withPlace(program.command('audit'))
    .summary('show the audit log of base or a supernode')
    .description(
      'Shows the audit log of base or a supernode on this machine, oldest first: who did what to whom, as far as it gives or takes somebody a right. Reads the state directory, so the daemon need not run.',
    )
    .option('--since <when>', 'from then on: a duration such as 24h, or a date such as 2026-03-01 or 2026-03-01T12:00Z')
    .option('--limit <number>', 'the newest so many', '100')
    .option('--json', 'print them as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  vpnd audit\n  vpnd audit --since 24h --json\n  vpnd audit verify --role base\n  vpnd audit export > audit.jsonl',
    )
    .action((options: ShowOptions) => show(options, io));
  withPlace(audit.command('verify'))
    .summary('check that nobody changed, removed or added anything')
    .description(
      'Walks the audit log from its beginning to the end that the node signed, and says where something was changed, removed, put in or cut off. Exit status 1 where it was.',
    )
    .option('--checkpoint <sequence:hash>', 'one that was written down elsewhere; may be given several times', collect)
    .option('--file <path>', 'an exported log instead of a state directory')
    .option('--node <peer id>', 'whose signature it must be; the identity in the state directory unless given')
    .option('--json', 'print the verdict as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  vpnd audit verify\n  vpnd audit verify --checkpoint 4711:0123456789abcdef0123456789abcdef\n  vpnd audit verify --file audit.jsonl --node 7dpk…',
    )
    .action(async (options: VerifyOptions) => {
      outcome.status = await verify(options, io);
    });
  withPlace(audit.command('export'))
    .summary('print the whole log with its hashes and signatures')
    .description('Prints the whole audit log with its hashes and signatures, for `vpnd audit verify --file` elsewhere.')
    .addHelpText('after', '\nExample:\n  vpnd audit export --role base > audit.jsonl')
    .action(async (options: Place) => {
      const dir = directoryOf(options, io.env);
      const node = await identityIn(dir);
      await withChain(dir, (chain) => {
        for (const line of exportLines(chain, node)) io.out(line);
      });
    });
}

const collect = (text: string, before: readonly string[] = []): readonly string[] => [...before, text];

async function show(options: ShowOptions, io: Io): Promise<void> {
  const limit = check('--limit', options.limit, integer(1, 1_000_000)) ?? 100;
  const since = options.since === undefined ? 0 : momentOf(options.since, Date.now());
  await withChain(directoryOf(options, io.env), ({ entries }) => {
    const found: AuditEntry[] = [];
    for (const entry of entries) {
      if (entry.at < since) continue;
      found.push(entry);
      if (found.length > limit) found.shift();
    }
    if (options.json) io.out(`${JSON.stringify(found.map(shownJson))}\n`);
    else io.out(found.length === 0 ? 'nothing is recorded\n' : found.map(entryLine).join(''));
  });
}

async function verify(options: VerifyOptions, io: Io): Promise<ExitStatus> {
  const known = (options.checkpoint ?? []).map(knownPoint);
  const { crypto } = await openSodium();
  const judge = (chain: FoundChain, node: PeerId): ExitStatus => {
    const verdict = verifyChain(chain, { keys: [keyOf(node)], crypto }, known);
    const { checked, first, last, checkpoints, fault, outlived } = verdict;
    if (options.json)
      io.out(`${JSON.stringify({ node, checked, first, last, checkpoints, outlived, fault: fault ?? null })}\n`);
    else {
      const range = first === undefined ? '' : ` (${first} to ${last})`;
      io.out(`${checked} entries${range} and ${checkpoints} checkpoints checked\n`);
      if (outlived > 0) io.out(`${outlived} of the given checkpoints are of entries that have been removed since\n`);
      if (fault !== undefined) io.out(`entry ${fault.sequence}: ${plain(fault.what)}\n`);
      else if (chain.head !== undefined)
        io.out(
          `the log is whole; it ends with ${chain.head.sequence}:${toHex(chain.head.hash).slice(0, 40)}, signed ${second(chain.head.at)}\n`,
        );
    }
    return fault === undefined ? 0 : 1;
  };
  const given = options.node === undefined ? undefined : peerIdOf(options.node);
  if (options.file !== undefined) {
    const { node, chain } = readExport(options.file);
    if (given === undefined)
      throw new UsageError(
        `--file names its own author (${node}), who may be anybody: say with --node whose log it must be`,
      );
    return judge(chain, given);
  }
  const dir = directoryOf(options, io.env);
  const node = given ?? (await identityIn(dir));
  return withChain(dir, (chain) => judge(chain, node));
}

async function withChain<T>(dir: string, use: (chain: FoundChain) => T): Promise<T> {
  const reader = openAuditReader(dir);
  try {
    return use({
      entries: entriesOf(reader),
      head: reader.head(),
      anchor: reader.anchor(),
      checkpoints: reader.checkpoints(),
    });
  } finally {
    reader.close();
  }
}

function directoryOf({ stateDir, role }: Place, env: NodeJS.ProcessEnv): string {
  if (stateDir !== undefined) return stateDir;
  if (role !== undefined) {
    if (!KEEPERS.includes(role)) throw new UsageError(`--role: '${role}' is not one of ${KEEPERS.join(', ')}`);
    return join(STATE_ROOT, role);
  }
  if (env.VPND_STATE_DIR) return env.VPND_STATE_DIR;
  const [only, another] = KEEPERS.map((name) => join(STATE_ROOT, name)).filter((dir) => existsSync(dir));
  if (only === undefined)
    throw new VpndError(
      'not-found',
      `neither base nor a supernode has its state below ${STATE_ROOT}; give --state-dir`,
    );
  if (another !== undefined) throw new UsageError('base and a supernode live here: say which with --role');
  return only;
}

async function identityIn(dir: string): Promise<PeerId> {
  if (!existsSync(join(dir, 'identity.key')))
    throw new VpndError('not-found', `${dir} has no identity.key; say with --node whose log it is`);
  const { crypto } = await openSodium();
  return openStateDir(dir, crypto, { lock: false }).identity().id;
}

function peerIdOf(text: string): PeerId {
  const parsed = parsePeerId(text);
  if (!parsed.ok)
    throw new UsageError(`--node: '${text.slice(0, 80)}' is not a peer id; \`vpnd status\` shows it whole`);
  return parsed.value;
}

function knownPoint(text: string): KnownPoint {
  const match = /^(\d{1,15}):([0-9a-f]{16,64})$/i.exec(text.trim());
  if (match === null)
    throw new UsageError(
      `--checkpoint: '${text.slice(0, 100)}' is not a sequence and a hash like 4711:0123456789abcdef0123456789abcdef`,
    );
  return { sequence: Number(match[1]), hash: match[2] ?? '' };
}

function momentOf(text: string, now: number): number {
  const ago = duration(seconds(0), days(36_500))(text);
  if (ago.ok) return now - ago.value;
  const at = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at))
    throw new UsageError(`--since: '${text.slice(0, 80)}' is neither a duration like 24h nor a date like 2026-03-01`);
  return at;
}

/** As exported, its details as an object, which is handier where no hash is to be checked. */
export const shownJson = (entry: AuditEntry): unknown => ({ ...entryJson(entry), detail: detailOf(entry) });

function detailOf({ detail }: AuditEntry): Readonly<Record<string, unknown>> {
  try {
    const parsed: unknown = JSON.parse(detail);
    if (typeof parsed === 'object' && parsed !== null) return parsed as Readonly<Record<string, unknown>>;
  } catch {
    // Somebody changed it; `verify` says so.
  }
  return { unreadable: detail };
}

/** As wide as `membership-renewed` and the longest sequence that a year brings. */
const CODE_WIDTH = 18;

/** `2026-03-01 12:00:00 UTC  12  token-made          operator  token:1a2b3c4d  role=exit uses=1`. */
export function entryLine(entry: AuditEntry): string {
  const detail = Object.entries(detailOf(entry)).map(
    ([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  const cells = [String(entry.sequence).padStart(6), entry.code.padEnd(CODE_WIDTH), entry.by, entry.on, ...detail];
  return `${second(entry.at)}  ${plain(cells.filter((cell) => cell !== '').join('  '))}\n`;
}
