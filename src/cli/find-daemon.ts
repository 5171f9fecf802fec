import { lstatSync, readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Command } from 'commander';
import { ROLES } from '../config/option.js';
import { VpndError } from '../model/errors.js';
import type { Role } from '../model/role.js';
import { type LocalApi, localClient } from '../transport/local-api-client.js';
import { type Io, UsageError } from './io.js';

/** How a person says which daemon of this machine is meant. */
export interface DaemonChoice {
  readonly socket?: string;
  readonly stateDir?: string;
  readonly role?: string;
}

const STATE_ROOT = '/var/lib/vpnd';

export function withDaemonChoice(command: Command): Command {
  return command
    .option('--socket <path>', 'unix socket of the daemon')
    .option('--state-dir <dir>', 'state directory of the daemon')
    .option('--role <role>', `the daemon of this role below ${STATE_ROOT}`);
}

/**
 * The daemon a command talks to: --socket, --state-dir, VPND_SOCKET, VPND_STATE_DIR, --role, else the one that runs
 * here, preferring the role the command is for. Throws VpndError `daemon-not-running`, or UsageError when several run.
 */
export async function findDaemon(choice: DaemonChoice, prefer: Role | undefined, io: Io): Promise<LocalApi> {
  return localClient(await findSocket(choice, prefer, io.env));
}

export async function findSocket(
  choice: DaemonChoice,
  prefer: Role | undefined,
  env: NodeJS.ProcessEnv,
  root = STATE_ROOT,
): Promise<string> {
  const role = choice.role === undefined ? undefined : parseRole(choice.role);
  if (choice.socket !== undefined) return choice.socket;
  if (choice.stateDir !== undefined) return join(choice.stateDir, 'vpnd.sock');
  if (role !== undefined) return join(root, role, 'vpnd.sock');
  if (env.VPND_SOCKET) return env.VPND_SOCKET;
  if (env.VPND_STATE_DIR) return join(env.VPND_STATE_DIR, 'vpnd.sock');

  const running: string[] = [];
  for (const name of stateDirs(root)) {
    if (await answers(join(root, name, 'vpnd.sock'))) running.push(name);
  }
  const [only, another] = running;
  if (prefer !== undefined && running.includes(prefer)) return join(root, prefer, 'vpnd.sock');
  if (only === undefined) throw nothingRuns(prefer);
  if (another !== undefined) {
    throw new UsageError(`several daemons run here (${running.join(', ')}): say which with --role or --state-dir`);
  }
  return join(root, only, 'vpnd.sock');
}

export function parseRole(text: string): Role {
  const role = ROLES.find((candidate) => candidate === text);
  if (role === undefined) throw new UsageError(`--role: '${text}' is not one of ${ROLES.join(', ')}`);
  return role;
}

function stateDirs(root: string): readonly string[] {
  try {
    return readdirSync(root).sort();
  } catch {
    return [];
  }
}

/** Whether somebody listens; a socket of another user counts, so that asking it says what is wrong. */
async function answers(socket: string): Promise<boolean> {
  try {
    if (!lstatSync(socket).isSocket()) return false;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'EACCES';
  }
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'EACCES'));
  });
}

const START: Record<Role, string> = {
  base: '`vpnd base --advertise HOST`',
  supernode: '`vpnd supernode --advertise HOST --join-file FILE`',
  exit: '`vpnd exit --join-file FILE`',
  client: '`vpnd client --join-file FILE`',
};

function nothingRuns(role: Role | undefined): VpndError {
  const start =
    role === undefined
      ? 'start one with `vpnd base`, `vpnd supernode`, `vpnd exit` or `vpnd client`'
      : `start it with ${START[role]} (or \`systemctl start vpnd-${role}\`)`;
  return new VpndError(
    'daemon-not-running',
    `no vpnd ${role === undefined ? '' : `${role} `}runs on this machine; ${start}; for one with its own state directory, give --state-dir`,
  );
}
