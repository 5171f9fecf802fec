import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { VpndError } from '../model/errors.js';
import { localClient } from '../transport/local-api-client.js';
import type { Io } from './io.js';
import { requirePrivileges } from './privileges.js';

interface LockdownChoice {
  readonly stateDir?: string;
  readonly socket?: string;
}

const STATE_DIR = '/var/lib/vpnd/client';
const LEAVE = 'to let everything out again: vpnd lockdown off';

/** `vpnd lockdown on|off|status|load`: what holds this machine's traffic when no daemon does. */
export function lockdownCommand(program: Command, io: Io): void {
  const command = program
    .command('lockdown')
    .summary('hold all traffic unless there is a tunnel, daemon or not')
    .description(
      'Lockdown keeps everything but tunnels from leaving this machine: before `vpnd up`, after `vpnd down`, with the client stopped, killed or not started yet, and from boot on.',
    )
    .addHelpText('after', '\nExamples:\n  vpnd lockdown on\n  vpnd lockdown status\n  vpnd lockdown off');
  const add = (name: string, summary: string, description: string, run: (choice: LockdownChoice) => Promise<void>) =>
    command
      .command(name)
      .summary(summary)
      .description(description)
      .option('--state-dir <dir>', `state directory of the client (default: ${STATE_DIR})`)
      .option('--socket <path>', 'unix socket of the client')
      .action(run);
  add(
    'on',
    'hold all traffic from now on',
    'Asks the client that runs here to hold all traffic unless there is a tunnel, and to keep the rules for the next boot.',
    (choice) => turnOn(choice, io),
  );
  add(
    'off',
    'let traffic out again',
    'Ends lockdown. Where no client runs it does so itself: it removes the rules from the kernel, and the file that the next boot would load.',
    (choice) => turnOff(choice, io),
  );
  add(
    'status',
    'say whether lockdown is on',
    'Says whether lockdown is on, whether its rules are in the kernel at present, and how to end it.',
    (choice) => show(choice, io),
  );
  add(
    'load',
    'put the rules in force, at boot',
    'Puts the rules that a client has kept in force, with no client running: for the start of this machine, before any network comes up. Does nothing where lockdown is off. Where the rules cannot be read, everything is held.',
    (choice) => load(choice, io),
  );
}

async function turnOn(choice: LockdownChoice, io: Io): Promise<void> {
  const { stateDir, socket } = placeOf(choice, io);
  try {
    await localClient(socket).setLockdown(true);
  } catch (thrown) {
    if (!isNotRunning(thrown)) throw thrown;
    throw new VpndError(
      'daemon-not-running',
      `no client runs in ${stateDir}: start it with \`vpnd client --lockdown\` (or systemctl start vpnd-client), since only it knows which supernodes must stay reachable`,
      { cause: thrown },
    );
  }
  io.out('lockdown is on: nothing leaves this machine but by a tunnel\n');
  io.out(
    'it survives a reboot where vpnd-lockdown.service is enabled, or the start of this machine runs `vpnd lockdown load`\n',
  );
  io.out(`${LEAVE}\n`);
}

async function turnOff(choice: LockdownChoice, io: Io): Promise<void> {
  const { stateDir, socket } = placeOf(choice, io);
  try {
    const status = await localClient(socket).setLockdown(false);
    const isHeld = status.sessions.length > 0;
    io.out(
      isHeld
        ? 'lockdown is off; traffic stays in the tunnel until vpnd down\n'
        : 'lockdown is off: everything leaves as it is\n',
    );
    io.out('a client that is started with --lockdown (or `lockdown = true` in client.toml) turns it on again\n');
    return;
  } catch (thrown) {
    if (!isNotRunning(thrown)) throw thrown;
  }
  await requirePrivileges('vpnd lockdown off, where no client runs,');
  const { endLockdown } = await import('../../dataplane/lockdown.js');
  const removed = await endLockdown(stateDir);
  if (removed.length === 0) io.out('lockdown was off already\n');
  else io.out(`${removed.map((line) => `removed ${line}\n`).join('')}lockdown is off: everything leaves as it is\n`);
}

async function show(choice: LockdownChoice, io: Io): Promise<void> {
  const { stateDir } = placeOf(choice, io);
  await requirePrivileges('vpnd lockdown status reads nftables: it');
  const { lockdownState } = await import('../../dataplane/lockdown.js');
  const { kept, inForce } = await lockdownState(stateDir);
  io.out(
    kept
      ? `lockdown is on${inForce ? ', and in force' : ', and NOT in force: start the client, or run `vpnd lockdown load`'}\n`
      : inForce
        ? 'lockdown is off; a kill switch is in force while a tunnel is wanted, and goes with `vpnd down`\n'
        : 'lockdown is off\n',
  );
  if (kept) io.out(`${LEAVE}\n`);
}

async function load(choice: LockdownChoice, io: Io): Promise<void> {
  const { stateDir } = placeOf(choice, io);
  await requirePrivileges('vpnd lockdown load');
  const { loadLockdown } = await import('../../dataplane/lockdown.js');
  const loaded = await loadLockdown(stateDir);
  if (loaded.kind === 'off') io.out('lockdown is off\n');
  else if (loaded.kind === 'loaded') io.out('lockdown is in force\n');
  else {
    throw new VpndError(
      'state-corrupt',
      `the rules in ${stateDir} cannot be used (${loaded.why}): everything is held, supernodes included, until a client runs or \`vpnd lockdown off\``,
    );
  }
}

function placeOf({ stateDir, socket }: LockdownChoice, { env }: Io): { stateDir: string; socket: string } {
  const dir =
    stateDir ?? (socket === undefined ? (env.VPND_STATE_DIR ?? STATE_DIR) : undefined) ?? dirname(socket ?? '');
  return { stateDir: dir, socket: socket ?? join(dir, 'vpnd.sock') };
}

const isNotRunning = (thrown: unknown): boolean => thrown instanceof VpndError && thrown.code === 'daemon-not-running';
