import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { accessSync, closeSync, constants, openSync, unlinkSync, writeSync } from 'node:fs';
import { VpndError } from '../src/model/errors.js';
import { type Millis, seconds } from '../src/model/time.js';

/** The programs the data plane may start, and the Debian package each comes with. */
export const TOOLS = {
  ip: 'iproute2',
  nft: 'nftables',
  wg: 'wireguard-tools',
  'wireguard-go': 'wireguard-go',
} as const;
export type Tool = keyof typeof TOOLS;

/**
 * Where programs are looked for. The caller's PATH is never asked: a hostile directory in front of it would run as root
 * (CVE-2020-11498 was that mistake).
 */
export const TOOL_DIRECTORIES: readonly string[] = [
  '/usr/local/sbin',
  '/usr/sbin',
  '/sbin',
  '/usr/local/bin',
  '/usr/bin',
  '/bin',
];

/** How long a tool may take before it is killed and counts as failed. */
const TIMEOUT: Millis = seconds(10);
/** A table with 65536 sessions lists as some 30 MB of JSON. */
const OUTPUT_LIMIT = 256 * 1024 * 1024;

export interface RunOptions {
  /** Text for the program's standard input: keys travel here, never in an argument. */
  readonly input?: string;
  readonly timeout?: Millis;
}

/** The one place where the data plane starts programs. */
export interface Runner {
  /** Absolute path, or undefined where the tool is not installed. */
  find(tool: Tool): string | undefined;
  /** Standard output. Rejects with VpndError: `no-tool` when missing, `dataplane` when it fails or hangs. */
  run(tool: Tool, args: readonly string[], options?: RunOptions): Promise<string>;
}

/** A runner over a fixed list of directories. */
export function createRunner(directories: readonly string[] = TOOL_DIRECTORIES): Runner {
  const found = new Map<Tool, string>();
  const find = (tool: Tool): string | undefined => {
    const known = found.get(tool);
    if (known !== undefined) return known;
    const path = directories.map((directory) => `${directory}/${tool}`).find(isExecutable);
    if (path !== undefined) found.set(tool, path);
    return path;
  };
  return {
    find,
    async run(tool, args, options = {}) {
      const path = find(tool);
      if (path === undefined) throw missingTool(tool);
      return await start(tool, path, args, options);
    },
  };
}

export function missingTool(tool: Tool): VpndError {
  const code = tool === 'nft' ? 'no-nft' : tool === 'wireguard-go' ? 'no-wireguard' : 'no-tool';
  return new VpndError(code, `${tool} is not installed; install it: apt-get install ${TOOLS[tool]}`, {
    details: { tool },
  });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function start(tool: Tool, path: string, args: readonly string[], options: RunOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const input = options.input === undefined ? undefined : anonymousFile(options.input);
    let child: ChildProcess;
    try {
      child = spawn(path, args, {
        cwd: '/',
        // Nothing of the daemon's environment: it may hold a join token, and PATH or LD_PRELOAD must not matter.
        env: { PATH: TOOL_DIRECTORIES.join(':'), LC_ALL: 'C' },
        stdio: [input ?? 'ignore', 'pipe', 'pipe'],
      });
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
    const limit = options.timeout ?? TIMEOUT;
    const timer = setTimeout(() => kill(`no answer within ${limit / 1000} s`), limit);
    const collect = (into: Buffer[]) => (chunk: Buffer) => {
      size += chunk.length;
      if (size > OUTPUT_LIMIT) kill('endless output');
      else into.push(chunk);
    };
    child.stdout?.on('data', collect(out));
    child.stderr?.on('data', collect(complaint));
    child.once('error', (cause) => {
      clearTimeout(timer);
      reject(
        new VpndError('dataplane', `${tool} could not be started: ${cause.message}`, { cause, details: { tool } }),
      );
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (code === 0) return resolve(Buffer.concat(out).toString('utf8'));
      const said = firstLines(Buffer.concat(complaint).toString('utf8'));
      const why = killed ?? (said || (signal === null ? `exit status ${code}` : `killed by ${signal}`));
      // How ip and wg say that a WireGuard port is taken.
      const errorCode = /Address already in use/.test(said) ? 'port-in-use' : 'dataplane';
      const details = { tool };
      reject(new VpndError(errorCode, `${tool} failed: ${why}`, { details, retryable: killed !== undefined }));
    });
  });
}

/** nft repeats the whole input under each complaint; the first lines say all. */
const firstLines = (text: string): string => text.trim().split('\n').slice(0, 3).join(' | ').slice(0, 400);

/**
 * A file without a name, open for reading and writing, in memory where there is such a place. A pipe would not do:
 * Node's pipes are sockets, and `wg addconf` cannot open those by name.
 */
function anonymousFile(content: string): number {
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
  throw new VpndError('dataplane', 'no writable directory for input of tools: /dev/shm, /run or /tmp must be one');
}
