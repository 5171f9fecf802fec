import { accessSync, constants } from 'node:fs';
import { VpndError } from '../src/model/errors.js';
import { type Millis, seconds } from '../src/model/time.js';
import { type Ended, type Launch, launch } from './launch.js';

/** The programs the data plane may start, and the Debian package each comes with. */
export const TOOLS = {
  ip: 'iproute2',
  ss: 'iproute2',
  tc: 'iproute2',
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

/** Absolute path of a program in those directories, or undefined. */
export const findProgram = (name: string, directories = TOOL_DIRECTORIES): string | undefined =>
  directories.map((directory) => `${directory}/${name}`).find(isExecutable);

/** All that a program is given of an environment: the daemon's may hold a join token, and LD_PRELOAD must not matter. */
export const cleanEnvironment = (): Record<string, string> => ({ PATH: TOOL_DIRECTORIES.join(':'), LC_ALL: 'C' });

/** How long a tool may take before it is killed and counts as failed. */
const TIMEOUT: Millis = seconds(10);
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

/** A runner over a fixed list of directories. `start`: how programs are started, from this process unless given. */
export function createRunner(directories: readonly string[] = TOOL_DIRECTORIES, start: Launch = launch): Runner {
  const found = new Map<Tool, string>();
  const find = (tool: Tool): string | undefined => {
    const known = found.get(tool);
    if (known !== undefined) return known;
    const path = findProgram(tool, directories);
    if (path !== undefined) found.set(tool, path);
    return path;
  };
  return {
    find,
    async run(tool, args, options = {}) {
      const path = find(tool);
      if (path === undefined) throw missingTool(tool);
      const env = cleanEnvironment();
      const { input, timeout = TIMEOUT } = options;
      return outputOf(tool, await start({ path, args, env, input, timeoutMs: timeout }));
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

/** What a tool's end means to whoever ran it. */
function outputOf(tool: Tool, ended: Ended): string {
  const details = { tool };
  if (ended.kind === 'not-started') {
    throw new VpndError('dataplane', `${tool} could not be started: ${ended.why}`, { details });
  }
  if (ended.code === 0 && ended.killed === undefined) return ended.stdout;
  const said = firstLines(ended.stderr);
  const why =
    ended.killed ?? (said || (ended.signal === null ? `exit status ${ended.code}` : `killed by ${ended.signal}`));
  // How ip and wg say that a WireGuard port is taken.
  const code = /Address already in use/.test(said) ? 'port-in-use' : 'dataplane';
  throw new VpndError(code, `${tool} failed: ${why}`, { details, retryable: ended.killed !== undefined });
}

/** nft repeats the whole input under each complaint; the first lines say all. */
const firstLines = (text: string): string => text.trim().split('\n').slice(0, 3).join(' | ').slice(0, 400);
