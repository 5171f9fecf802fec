import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Command } from 'commander';
import { cleanEnvironment, findProgram } from '../../dataplane/run.js';
import { userName } from '../config/values.js';
import { VpndError } from '../model/errors.js';
import { type Account, systemAccounts } from './account.js';
import { type ExitStatus, type Io, UsageError } from './io.js';
import { check } from './up.js';

const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;
/** As shells say it of a program that a signal ended (and POSIX of `env`): 128 and the signal's number. */
const SIGNALLED = 128;

export function excludeCommand(program: Command, io: Io, outcome: { status: ExitStatus }): void {
  program
    .command('exclude')
    .summary('run a program whose traffic stays outside the tunnel')
    .description(
      "Runs a program, and whatever it starts, outside the tunnel: its packets leave in the open, from this machine's own address, also while everything else is held. The names it looks up still go through the tunnel. Needs root, for the control group (cgroup v2) that the program is put into; the program itself runs as whoever called sudo.",
    )
    .option('--user <user>', 'user to run it as (default: whoever called sudo)')
    .argument('<program...>', 'program and its arguments, behind --')
    .addHelpText(
      'after',
      '\nExamples:\n  vpnd exclude --user backup -- rsync -a /srv host:/srv\n  sudo vpnd exclude -- steam',
    )
    .passThroughOptions()
    .action(async (argv: readonly string[], options: { readonly user?: string }) => {
      const [name, ...args] = argv;
      if (name === undefined) throw new UsageError('exclude: name a program: vpnd exclude -- PROGRAM');
      const account = await accountOf(check('--user', options.user, userName), io);
      if (process.geteuid?.() !== 0) {
        throw new VpndError(
          'no-root',
          'vpnd exclude makes a control group, which is root’s to do: sudo vpnd exclude -- …; the program runs as you',
        );
      }
      const { enterExcludedGroup } = await import('../../dataplane/enter-excluded.js');
      const group = await enterExcludedGroup();
      let child: ChildProcess;
      try {
        child = startAs(name, args, account, io);
      } finally {
        // The program is in it by now, and with it what it will start.
        group.leave();
      }
      outcome.status = (await ended(child)) as ExitStatus;
      group.removeIfEmpty();
    });
}

/** Whom a program of root's is to be run as; undefined for root itself. */
export async function accountOf(user: string | undefined, { env }: Io): Promise<Account | undefined> {
  const wanted = user ?? env.SUDO_UID;
  if (wanted === undefined) return undefined;
  const found = await systemAccounts.find(wanted);
  if (found === undefined) throw new VpndError('bad-config', `--user: there is no user '${wanted}' on this machine`);
  return found;
}

/** Starts a program as that user, with this process's terminal and environment. */
export function startAs(
  name: string,
  args: readonly string[],
  account: Account | undefined,
  { env }: Pick<Io, 'env'>,
): ChildProcess {
  if (account === undefined || account.uid === 0) return spawn(name, args, { env, stdio: 'inherit' });
  const setpriv = findProgram('setpriv');
  if (setpriv === undefined) {
    throw new VpndError('no-tool', 'setpriv is not installed; install it: apt-get install util-linux');
  }
  // Groups as after a login; a user without a name has none.
  const groups = account.name === String(account.uid) ? '--clear-groups' : '--init-groups';
  const become = ['--reuid', String(account.uid), '--regid', String(account.gid), groups, '--'];
  const own = { ...env, USER: account.name, LOGNAME: account.name, PATH: env.PATH ?? cleanEnvironment().PATH };
  return spawn(setpriv, [...become, name, ...args], { env: own, stdio: 'inherit' });
}

/** A child's exit status; signals that this process gets are its. */
export function ended(child: ChildProcess): Promise<number> {
  const pass = (signal: NodeJS.Signals) => {
    child.kill(signal);
  };
  for (const signal of PASSED_ON) process.on(signal, pass);
  return new Promise<number>((resolve, reject) => {
    child.once('error', (cause: NodeJS.ErrnoException) => {
      const why = cause.code === 'ENOENT' ? `there is no program '${child.spawnfile}'` : cause.message;
      reject(new VpndError('not-found', why, { cause }));
    });
    child.once('exit', (code, signal) =>
      resolve(code ?? SIGNALLED + (signal === null ? 0 : constants.signals[signal])),
    );
  }).finally(() => {
    for (const signal of PASSED_ON) process.off(signal, pass);
  });
}
