import { toVpndError, VpndError } from '../model/errors.js';
import { hiddenSecrets } from './secret-arguments.js';

/** What a command may touch of its process. Tests give their own. */
export interface Io {
  /** Writes to standard output as is. */
  out(text: string): void;
  /** Writes to standard error as is. */
  err(text: string): void;
  readonly env: NodeJS.ProcessEnv;
  /** Whether a person is looking at standard output. */
  readonly interactive: boolean;
  /** Blanks secrets out of the command line that others can look at; answers with whether there were any. */
  hideArguments?(): boolean;
  /** Ends the process this moment. */
  exitNow(status: number): never;
  /** Calls back at every SIGINT and SIGTERM; the returned function stops that. */
  onSignal(listener: () => void): () => void;
}

export const processIo = (): Io => ({
  out: (text) => {
    process.stdout.write(text);
  },
  err: (text) => {
    process.stderr.write(text);
  },
  env: process.env,
  interactive: process.stdout.isTTY === true,
  hideArguments: () => {
    const shown = hiddenSecrets(process.argv.slice(2));
    if (shown === undefined) return false;
    process.argv.splice(2, shown.length, ...shown);
    // Node writes a title over the arguments that /proc shows.
    process.title = ['vpnd', ...shown].join(' ');
    return true;
  },
  exitNow: (status) => process.exit(status),
  onSignal: (listener) => {
    process.on('SIGINT', listener);
    process.on('SIGTERM', listener);
    return () => {
      process.off('SIGINT', listener);
      process.off('SIGTERM', listener);
    };
  },
});

/** 0 done, 1 refused or failed, 2 used or configured wrongly. */
export type ExitStatus = 0 | 1 | 2;

/** Wrong usage: a line about the command line itself. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Prints one line about what was thrown, and answers with the exit status it stands for. */
export function reportFailure(thrown: unknown, io: Io, debug: boolean): ExitStatus {
  const error = thrown instanceof UsageError ? thrown : toVpndError(thrown);
  const line = error.message.replace(/\s*\n\s*/g, ' ').trim();
  const code =
    error instanceof VpndError && error.code === 'internal' ? ' (internal error; --log-level debug shows where)' : '';
  io.err(`vpnd: ${line}${debug ? '' : code}\n`);
  if (debug && !(thrown instanceof UsageError)) {
    const cause = error.cause instanceof Error ? error.cause : error;
    io.err(`${cause.stack ?? String(cause)}\n`);
  }
  return error instanceof UsageError || error.code === 'bad-config' ? 2 : 1;
}
