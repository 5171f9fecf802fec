import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { toVpndError } from '../src/model/errors.js';
import { excludedProgramsTable } from './excluded-programs.js';
import { killSwitchTable } from './kill-switch.js';
import { renderKillSwitch } from './kill-switch-text.js';
import { LockdownFile, lockdownFileIn } from './lockdown-file.js';
import { listStructure, runNft } from './nft.js';
import { createRunner, type Runner } from './run.js';

/** Lockdown without a daemon: at boot, and when somebody wants to be rid of it. */

const OWNER = 'vpnd_client';
const TABLE = killSwitchTable(OWNER);
/** A client's interfaces unless it was told otherwise: what is known where nothing can be read. */
const USUAL_DEVICES = ['wg-client', 'wg-client-1', 'wg-client-2'];
const LIMIT_BYTES = 1024 * 1024;
/** Of an interface. */
const QUOTED_NAME = /"[\w.@-]+"/g;

export interface LockdownState {
  /** The next boot puts it in force. */
  readonly kept: boolean;
  /** A kill switch is in the kernel at present. */
  readonly inForce: boolean;
}

export async function lockdownState(stateDir: string, runner: Runner = createRunner()): Promise<LockdownState> {
  const inForce = (await listStructure(runner, 'inet', TABLE)) !== undefined;
  return { kept: fileIn(stateDir).exists(), inForce };
}

export type Loaded =
  | { readonly kind: 'off' }
  | { readonly kind: 'loaded' }
  /** Everything is held instead. */
  | { readonly kind: 'closed'; readonly why: string };

/** Puts what is kept in force. Where that cannot be, everything is held: a broken file must not open the machine. */
export async function loadLockdown(stateDir: string, runner: Runner = createRunner()): Promise<Loaded> {
  if (!fileIn(stateDir).exists()) return { kind: 'off' };
  try {
    await runNft(runner, readRules(lockdownFileIn(stateDir)));
    return { kind: 'loaded' };
  } catch (thrown) {
    const closed = { devices: USUAL_DEVICES as never[], lan: false, exclude: [], uid: process.geteuid?.() ?? 0 };
    await runNft(runner, `table inet ${TABLE} {}\ndelete table inet ${TABLE}\n${renderKillSwitch(TABLE, closed)}`);
    return { kind: 'closed', why: toVpndError(thrown).message };
  }
}

/** Removes the rules and the file; answers with what there was. */
export async function endLockdown(stateDir: string, runner: Runner = createRunner()): Promise<readonly string[]> {
  const removed: string[] = [];
  const file = fileIn(stateDir);
  if (file.exists()) {
    file.remove();
    removed.push(lockdownFileIn(stateDir));
  }
  for (const table of [TABLE, excludedProgramsTable(OWNER)]) {
    if ((await listStructure(runner, 'inet', table)) === undefined) continue;
    await runNft(runner, `delete table inet ${table}\n`);
    removed.push(`table inet ${table}`);
  }
  return removed;
}

/**
 * The file is the daemon's, and whoever reads it may be root: what is in it is about this one table and nothing else, no
 * other file is named in it, and it is no link to one.
 */
function readRules(path: string): string {
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { size } = fstatSync(file);
    if (size > LIMIT_BYTES) throw new Error('it is too large');
    const text = readFileSync(file, 'utf8');
    const start = `table inet ${TABLE} {}\ndelete table inet ${TABLE}\ntable inet ${TABLE} {\n`;
    const body = text.slice(start.length);
    if (!text.startsWith(start) || !body.endsWith('\n}\n')) throw new Error('it is not what vpnd writes');
    const [last, ...rest] = body.split('\n').filter((line) => !line.startsWith('  '));
    const isMore = last !== '}' || rest.join('') !== '' || !isOneBlock(body);
    if (isMore || /\b(?:include|(?:re|un)?define|table)\b/.test(body)) throw new Error('it is not what vpnd writes');
    return text;
  } finally {
    closeSync(file);
  }
}

/** Whether a body ends with the brace that closes what is open in front of it, and nowhere before. */
function isOneBlock(body: string): boolean {
  const bare = body.replace(QUOTED_NAME, '').trimEnd();
  // Nothing that vpnd writes; to nft they hide braces, or join lines.
  if (/["#\\$]/.test(bare)) return false;
  let depth = 1;
  for (let at = 0; at < bare.length && depth > 0; at++) {
    if (bare[at] === '{') depth++;
    else if (bare[at] === '}') depth--;
    if (depth === 0) return at === bare.length - 1;
  }
  return false;
}

const fileIn = (stateDir: string): LockdownFile => new LockdownFile(lockdownFileIn(stateDir), { warn: () => {} });
