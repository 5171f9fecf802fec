import { closeSync, readFileSync, writeSync } from 'node:fs';
import { VpndError } from '../model/errors.js';

/**
 * What a daemon that gives up root takes along: what it read as root and may not read afterwards, and its secrets. It
 * goes over a socket that only the two processes have, never by an argument or a variable.
 */
export interface Handover {
  /** What reading each file gave: its text, or the errno. */
  readonly files: Readonly<Record<string, ReadResult>>;
  /** Values of the secret options, by name, wherever they came from. */
  readonly secrets: Readonly<Record<string, string>>;
  /** The descriptor of a socket to the process that sets this machine's resolver, where there is one. */
  readonly dnsHelper?: number;
}

export type ReadResult = { readonly text: string } | { readonly errno: string };

/** Where a socket to the process that sets the resolver belongs in the successor's `stdio`. */
export const DNS_DESCRIPTOR = 4;
/** Names the descriptor; gone from the environment before anything else looks at it. */
const VARIABLE = 'VPND_HANDOVER';
const DESCRIPTOR = 3;

/** What the process before this one adds to its successor's environment, and where in `stdio` its end belongs. */
export const HANDOVER_VARIABLES: Readonly<Record<string, string>> = { [VARIABLE]: String(DESCRIPTOR) };

/** For the successor: what was handed over. */
export interface Taken extends Handover {
  /** Tells the process before that the start has succeeded: it has nothing to tidy up any more. */
  started(): void;
}

/** Undefined in a process that nobody handed anything to. */
export function takeHandover(env: NodeJS.ProcessEnv): Taken | undefined {
  const given = env[VARIABLE];
  delete env[VARIABLE];
  if (given !== String(DESCRIPTOR)) return undefined;
  let handed: Handover;
  try {
    handed = JSON.parse(readFileSync(DESCRIPTOR, 'utf8')) as Handover;
  } catch (cause) {
    throw new VpndError('internal', 'nothing was handed over by the process that gave up root', { cause });
  }
  return {
    ...handed,
    started() {
      try {
        writeSync(DESCRIPTOR, '1');
        closeSync(DESCRIPTOR);
      } catch {
        // That process is gone, and so will this one be in a moment.
      }
    },
  };
}

/** Reads files, from what was handed over where it is there, and remembers what it read. */
export function rememberingReader(handed: Handover['files'] = {}): {
  readonly read: (path: string) => string;
  readonly files: Handover['files'];
} {
  const files: Record<string, ReadResult> = { ...handed };
  return {
    files,
    read(path) {
      const known = Object.hasOwn(files, path) ? files[path] : undefined;
      const result = known ?? readResult(path);
      files[path] = result;
      if ('text' in result) return result.text;
      throw Object.assign(new Error(`${path}: ${result.errno}`), { code: result.errno });
    },
  };
}

function readResult(path: string): ReadResult {
  try {
    return { text: readFileSync(path, 'utf8') };
  } catch (thrown) {
    return { errno: (thrown as NodeJS.ErrnoException).code ?? 'unknown error' };
  }
}
