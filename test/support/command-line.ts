import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Io } from '../../src/cli/io.js';
import { main } from '../../src/cli/main.js';
import { hiddenSecrets } from '../../src/cli/secret-arguments.js';
import type { Role } from '../../src/model/role.js';
import type { LocalHandlers } from '../../src/transport/local-api.js';
import { serveLocalApi } from '../../src/transport/local-api-server.js';
import { testLog } from './test-log.js';

export interface Ran {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

/** A command that runs in this process, and may be interrupted. */
export interface Running {
  readonly ended: Promise<Ran>;
  /** What it has printed so far. */
  out(): string;
  /** Resolves when it has printed this. */
  printed(pattern: RegExp): Promise<void>;
  /** Ctrl-C. */
  interrupt(): void;
}

export function running(args: readonly string[], env: Record<string, string> = {}): Running {
  let out = '';
  let err = '';
  const listeners = new Set<() => void>();
  const waiting = new Set<() => void>();
  const io: Io = {
    out: (text) => {
      out += text;
      for (const look of waiting) look();
    },
    err: (text) => {
      err += text;
    },
    env: { ...env },
    interactive: false,
    hideArguments: () => hiddenSecrets(args) !== undefined,
    exitNow: (code) => {
      throw new Error(`exit ${code}`);
    },
    onSignal: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
  return {
    ended: main(args, io).then((status) => ({ status, out, err })),
    out: () => out,
    printed: (pattern) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (!pattern.test(out)) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      }),
    interrupt: () => {
      for (const listener of listeners) listener();
    },
  };
}

/** A command line run in this process: the same code without the start of an interpreter. */
export const vpnd = (args: readonly string[], env: Record<string, string> = {}): Promise<Ran> =>
  running(args, env).ended;

/** A failure as people see it. */
export const oneLine = /^vpnd: [^\n]+\n$/;
export const stack = /\n\s+at |\.js:\d+/;

/** The local API of a daemon of this role, until the test ends; answers with its socket. */
export async function serveDaemon(t: Test, handlers: LocalHandlers, role: Role = 'client'): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-daemon-'));
  const socket = join(dir, 'vpnd.sock');
  const server = await serveLocalApi({ socket, role, handlers, log: testLog() });
  t.teardown(async () => {
    await server.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return socket;
}
