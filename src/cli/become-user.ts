import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { dirname } from 'node:path';
import { prepareWireGuard } from '../../dataplane/handover.js';
import { launch } from '../../dataplane/launch.js';
import { cleanEnvironment, findProgram } from '../../dataplane/run.js';
import type { DaemonConfig } from '../config/types.js';
import { handOver, removeMade } from '../identity/state-owner.js';
import { VpndError } from '../model/errors.js';
import { type Account, accountFor } from './account.js';
import { startDnsHelper } from './dns-helper.js';
import { DNS_DESCRIPTOR, HANDOVER_VARIABLES, type Handover } from './handover.js';
import type { Io } from './io.js';
import { needsDnsHelper } from './open-dns.js';
import { type Capability, capabilitiesFor, requireCapabilities } from './privileges.js';
import { withoutSecrets } from './secret-arguments.js';

/** The signals that are meant for the daemon, whoever gets them. */
const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'] as const;
/** What belongs to the login of whoever started the daemon, and is none of its business: an SSH agent, for one. */
const OF_THE_LOGIN = /^(?:HOME|USER|LOGNAME|MAIL|SHELL|SUDO_.*|SSH_.*|XDG_.*|DBUS_SESSION_BUS_ADDRESS)$/;
const PREFLIGHT_LIMIT = 10_000;

/**
 * Where root started a daemon, runs it as a user of its own with the capabilities it needs and no more, and answers with
 * its exit status. Undefined where this process is to be the daemon itself: another user started it, or `--user root`.
 *
 * Node cannot replace itself by another program, so this process stays in front of the daemon: it passes signals on, ends as the
 * daemon ends, takes it along where it is killed, and is nobody in particular itself once the daemon has started.
 *
 * Throws VpndError where the machine does not allow it: `no-root`, `no-tool`, `bad-config`, `state-unreadable`.
 */
export async function becomeUser(config: DaemonConfig, io: Io, handover: Handover): Promise<number | undefined> {
  if (process.geteuid?.() !== 0) return undefined;
  await requireCapabilities(config);
  const account = await accountFor(config.role, config.user);
  if (account.uid === 0) return undefined;
  const setpriv = findProgram('setpriv');
  if (setpriv === undefined) {
    const message = `setpriv is not installed, by which a daemon that root starts becomes user ${account.name}; install it: apt-get install util-linux (or give --user root)`;
    throw new VpndError('no-tool', message, { details: { tool: 'setpriv' } });
  }
  const drop = [setpriv, ...dropArguments(account, capabilitiesFor(config))] as const;
  await requireReadable(drop, account);
  const given = handOver(config.stateDir, account);
  try {
    if (given.changed > 0) io.out(`vpnd ${config.role}: ${config.stateDir} now belongs to user ${account.name}\n`);
    for (const line of given.left) io.err(`vpnd: not given to user ${account.name}: ${line}\n`);
    await requireReachable(drop, account, config);
    if (config.role !== 'base' && config.dataplane !== 'memory') await prepareWireGuard(config, account);
    const helped = needsDnsHelper(config) ? { ...handover, dnsHelper: DNS_DESCRIPTOR } : handover;
    return await runInFront(drop, account, helped, () => removeMade(given.made));
  } catch (thrown) {
    removeMade(given.made);
    throw thrown;
  }
}

/** What AmbientCapabilities, CapabilityBoundingSet, NoNewPrivileges and User of the systemd units do. */
export function dropArguments({ uid, gid }: Account, capabilities: readonly Capability[]): readonly string[] {
  const set = ['-all', ...capabilities.map((name) => `+${name}`)].join(',');
  return [
    ...['--reuid', String(uid), '--regid', String(gid), '--clear-groups'],
    ...[`--inh-caps=${set}`, `--ambient-caps=${set}`, `--bounding-set=${set}`],
    // Killing this process must not leave the daemon behind.
    ...['--no-new-privs', '--pdeathsig', 'KILL', '--'],
  ];
}

type Drop = readonly [string, ...string[]];

/** Tries the change of user on a harmless program: what it cannot do, and what the user cannot read, is said before anything is changed. */
async function requireReadable(drop: Drop, { name }: Account): Promise<void> {
  const script = scriptPath();
  const said = await tryAs(drop, ['-r', script, '-a', '-x', process.execPath]);
  if (said === undefined) return;
  if (said !== '') {
    throw new VpndError(
      'no-root',
      `this process cannot become user ${name} (${said}); start vpnd as that user with CAP_NET_ADMIN (a systemd unit, a container's settings), or give --user root`,
    );
  }
  const hidden = (await tryAs(drop, ['-r', script])) === undefined ? process.execPath : dirname(script);
  throw new VpndError(
    'no-root',
    `user ${name} cannot read ${hidden}: install it where everybody can (/opt, /usr), or give --user root`,
  );
}

async function requireReachable(drop: Drop, { name }: Account, config: DaemonConfig): Promise<void> {
  // A file in its place is the daemon's to complain about, and so is a directory that is not there.
  const reached = ['(', '!', '-e', config.stateDir, '-o', '-f', config.stateDir, '-o', '-w', config.stateDir, ')'];
  const isSeen = ['-x', dirname(config.stateDir)];
  if ((await tryAs(drop, [...isSeen, '-a', ...reached])) !== undefined) {
    throw new VpndError(
      'state-unreadable',
      `user ${name} cannot reach ${config.stateDir}: let others through the directories above it (chmod o+x), or give another --state-dir`,
      { details: { path: config.stateDir } },
    );
  }
  const place = dirname(config.socket);
  if (place !== config.stateDir && (await tryAs(drop, ['-w', place])) !== undefined) {
    throw new VpndError(
      'bad-config',
      `--socket: user ${name} may not write to ${place}; make a directory for it: install -d -o ${name} DIR`,
    );
  }
}

/** Undefined where test(1) says yes, else what setpriv complained of ('' where it did not). */
async function tryAs([setpriv, ...args]: Drop, condition: readonly string[]): Promise<string | undefined> {
  const test = findProgram('test');
  if (test === undefined) return undefined;
  const what = { path: setpriv, args: [...args, test, ...condition], env: cleanEnvironment(), input: undefined };
  const ended = await launch({ ...what, timeoutMs: PREFLIGHT_LIMIT });
  if (ended.kind === 'not-started') return ended.why;
  return ended.code === 0 ? undefined : (ended.stderr.trim().split('\n')[0] ?? '');
}

/** Starts the same command line by way of setpriv and stays in front of it until it ends. */
function runInFront([setpriv, ...args]: Drop, account: Account, handover: Handover, undo: () => void): Promise<number> {
  const own = [process.execPath, ...process.execArgv, scriptPath(), ...withoutSecrets(process.argv.slice(2))];
  const env = Object.entries(process.env).filter(([name]) => !OF_THE_LOGIN.test(name));
  const daemon = spawn(setpriv, [...args, ...own], {
    cwd: '/',
    env: { ...Object.fromEntries(env), ...HANDOVER_VARIABLES },
    // A session of its own: Ctrl-C comes once, from here, and the daemon cannot type into root's terminal.
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit', 'pipe', ...(handover.dnsHelper === undefined ? [] : ['pipe' as const])],
  });
  // Before root is given up, and once: a helper that is gone is not made again.
  if (handover.dnsHelper !== undefined) startDnsHelper(setpriv, daemon.stdio[handover.dnsHelper] as Socket);
  let hasStarted = false;
  const channel = daemon.stdio[3] as Socket;
  channel.on('error', () => {});
  channel.once('data', () => {
    hasStarted = true;
    giveUpRoot(account);
  });
  channel.end(JSON.stringify(handover));
  const stopPassing = passSignals(daemon);
  return new Promise((resolve, reject) => {
    daemon.once('error', (cause) => {
      stopPassing();
      reject(new VpndError('no-root', `setpriv could not be started: ${cause.message}`, { cause }));
    });
    daemon.once('exit', (code, signal) => {
      stopPassing();
      if (!hasStarted) undo();
      if (signal !== null) process.kill(process.pid, signal);
      resolve(code ?? 1);
    });
  });
}

function passSignals(daemon: ChildProcess): () => void {
  const pass = (signal: NodeJS.Signals) => {
    daemon.kill(signal);
  };
  for (const signal of PASSED_ON) process.on(signal, pass);
  return () => {
    for (const signal of PASSED_ON) process.off(signal, pass);
  };
}

/** From here on this process is as little as the daemon, and without a single capability. */
function giveUpRoot({ uid, gid }: Account): void {
  process.setgroups?.([]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}

function scriptPath(): string {
  const [, script] = process.argv;
  if (script === undefined) throw new VpndError('internal', 'vpnd does not know where its own program is');
  return script;
}
