import { Command, CommanderError } from 'commander';
import { ROLES } from '../config/option.js';
import { scrubSecrets } from '../obs/scrub.js';
import { auditCommand } from './audit.js';
import { cleanCommand } from './clean.js';
import { daemonCommand } from './daemon.js';
import { doctorCommand } from './doctor.js';
import { downCommand } from './down.js';
import { drainCommand } from './drain.js';
import { eventsCommand } from './events.js';
import { excludeCommand } from './exclude.js';
import { exitCommands } from './exit.js';
import { exitsCommand } from './exits.js';
import { type ExitStatus, type Io, processIo, reportFailure } from './io.js';
import { keysCommand } from './keys.js';
import { lockdownCommand } from './lockdown.js';
import { membersCommand } from './members.js';
import { pathCommand } from './path.js';
import { portalCommand } from './portal.js';
import { banCommands, revokeCommands } from './revoke.js';
import { rotateCommand } from './rotate.js';
import { statusCommand } from './status.js';
import { tokenCommand } from './token.js';
import { upCommand } from './up.js';
import { softwareVersion } from './version.js';

/** Runs one command line (without the interpreter and the script) and answers with its exit status. Never throws. */
export async function main(argv: readonly string[], given: Io = processIo()): Promise<ExitStatus> {
  // Whatever is complained of may have been typed in the place of something else: a token where a command should be.
  const io: Io = { ...given, err: (text) => given.err(scrubSecrets(text)) };
  const outcome: { status: ExitStatus } = { status: 0 };
  const program = build(io, outcome);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return outcome.status;
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) return reportFailure(thrown, io, wantsDebug(argv, io.env));
    if (thrown.exitCode === 0) return 0;
    io.err(`vpnd: ${oneLine(thrown)}; see \`${helpFor(program, argv)}\`\n`);
    return 2;
  }
}

function build(io: Io, outcome: { status: ExitStatus }): Command {
  const program = new Command('vpnd')
    .description(
      'A hierarchical peer-to-peer overlay VPN: reach the internet through an exit of your own, from anywhere.',
    )
    .version(softwareVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show this help')
    .helpCommand('help [command]', 'show the help of a command')
    .showSuggestionAfterError(true)
    .exitOverride()
    // What stands after a command is for it: `vpnd supernode drain` has flags of the names that `vpnd supernode` has.
    .enablePositionalOptions()
    // Commander's own errors are thrown and printed above, as one line.
    .configureOutput({ writeOut: io.out, writeErr: () => {}, outputError: () => {} })
    .addHelpText(
      'after',
      '\nExamples:\n  vpnd client --join-file token   run the client, enrolling at the first start\n  vpnd up --region eu             go online through an exit in eu\n  vpnd status                     see what happens\n  vpnd doctor                     see what is missing on this machine',
    );
  for (const role of ROLES) {
    const command = daemonCommand(program, role, io, outcome);
    if (role === 'exit') exitCommands(command, io);
    if (role !== 'supernode') continue;
    drainCommand(command, io, outcome);
    banCommands(command, io);
  }
  upCommand(program, io);
  downCommand(program, io);
  statusCommand(program, io);
  eventsCommand(program, io);
  rotateCommand(program, io);
  pathCommand(program, io);
  portalCommand(program, io, outcome);
  exitsCommand(program, io);
  tokenCommand(program, io);
  auditCommand(program, io, outcome);
  membersCommand(program, io);
  revokeCommands(program, io);
  keysCommand(program, io);
  doctorCommand(program, io, outcome);
  excludeCommand(program, io, outcome);
  lockdownCommand(program, io);
  cleanCommand(program, io);
  for (const command of withDescendants(program)) {
    command.allowExcessArguments(false).configureHelp({ sortOptions: false, showGlobalOptions: false });
  }
  return program;
}

const withDescendants = (command: Command): readonly Command[] => [
  command,
  ...command.commands.flatMap((inner) => withDescendants(inner)),
];

/** "error: unknown option '--jsn'\n(Did you mean --json?)" -> "unknown option '--jsn' (did you mean --json?)". */
function oneLine(error: CommanderError): string {
  if (error.code === 'commander.help') return 'say what to do';
  return error.message
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace('(Did you mean', '(did you mean')
    .replace(/[.\s]+$/, '');
}

function helpFor(program: Command, argv: readonly string[]): string {
  const words = ['vpnd'];
  let at = program;
  for (const word of argv) {
    const inner = at.commands.find((command) => command.name() === word);
    if (inner === undefined) break;
    words.push(word);
    at = inner;
  }
  return `${words.join(' ')} --help`;
}

function wantsDebug(argv: readonly string[], env: NodeJS.ProcessEnv): boolean {
  const at = argv.indexOf('--log-level');
  return argv[at + 1] === 'debug' && at >= 0
    ? true
    : argv.includes('--log-level=debug') || env.VPND_LOG_LEVEL === 'debug';
}
