import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs';

/** One program to run to its end. Plain data: it may travel to another process. */
export interface Launched {
  /** Absolute. */
  readonly path: string;
  readonly args: readonly string[];
  /** All of its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Text for its standard input. */
  readonly input: string | undefined;
  /** After which it is killed. */
  readonly timeoutMs: number;
}

export type Ended =
  | {
      readonly kind: 'ended';
      readonly code: number | null;
      readonly signal: string | null;
      readonly stdout: string;
      readonly stderr: string;
      /** Why it was killed by us, if it was. */
      readonly killed?: string;
    }
  | { readonly kind: 'not-started'; readonly why: string };

/** Never rejects for what the program does. */
export type Launch = (what: Launched) => Promise<Ended>;

/** A table with 65536 sessions lists as some 30 MB of JSON. */
const OUTPUT_LIMIT = 256 * 1024 * 1024;

/** Runs a program as a child of this process. */
export const launch: Launch = (what) =>
  new Promise((resolve) => {
    let child: ChildProcess;
    const input = what.input === undefined ? undefined : anonymousFile(what.input);
    if (input === null) {
      const why = 'there is no writable directory for its input: /dev/shm, /run or /tmp must be one';
      return resolve({ kind: 'not-started', why });
    }
    try {
      const stdio = [input ?? ('ignore' as const), 'pipe' as const, 'pipe' as const];
      child = spawn(what.path, what.args, { cwd: '/', env: what.env, stdio });
    } catch (thrown) {
      return resolve({ kind: 'not-started', why: thrown instanceof Error ? thrown.message : String(thrown) });
    } finally {
      if (input !== undefined) closeSync(input);
    }
    const out: Buffer[] = [];
    const complaint: Buffer[] = [];
    let size = 0;
    let killed: string | undefined;
    const kill = (why: string) => {
      killed ??= why;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => kill(`no answer within ${what.timeoutMs / 1000} s`), what.timeoutMs);
    const collect = (into: Buffer[]) => (chunk: Buffer) => {
      size += chunk.length;
      if (size > OUTPUT_LIMIT) kill('endless output');
      else into.push(chunk);
    };
    child.stdout?.on('data', collect(out));
    child.stderr?.on('data', collect(complaint));
    child.once('error', (cause) => {
      clearTimeout(timer);
      resolve({ kind: 'not-started', why: cause.message });
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      const text = (chunks: readonly Buffer[]) => Buffer.concat(chunks).toString('utf8');
      const ended = { kind: 'ended', code, signal, stdout: text(out), stderr: text(complaint) } as const;
      resolve(killed === undefined ? ended : { ...ended, killed });
    });
  });

/**
 * A file without a name, open for reading and writing, in memory where there is such a place; null where there is none.
 * A pipe would not do: Node's pipes are sockets, and `wg addconf` cannot open those by name.
 */
function anonymousFile(content: string): number | null {
  for (const directory of ['/dev/shm', '/run', '/tmp']) {
    const path = `${directory}/vpnd-${randomUUID()}`;
    let fd: number;
    try {
      fd = openSync(path, 'wx+', 0o600);
    } catch {
      continue;
    }
    unlinkSync(path);
    // Positioned writes leave the file offset, which the child inherits, at the beginning.
    const bytes = Buffer.from(content, 'utf8');
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, at);
    return fd;
  }
  return null;
}
