import { toJsonString } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { duration } from '../config/values.js';
import { ExitContractSchema, type NodeStatus } from '../gen/vpnd/v1/admin_pb.js';
import { VpndError } from '../model/errors.js';
import { days, seconds } from '../model/time.js';
import { contractText } from './exit-text.js';
import { findDaemon } from './find-daemon.js';
import { type Io, UsageError } from './io.js';
import { check } from './up.js';

interface ExitOptions {
  readonly socket?: string;
  readonly stateDir?: string;
  readonly json?: boolean;
  readonly for?: string;
}

/** `vpnd exit status`, `pause` and `resume`, beside what runs an exit. */
export function exitCommands(exit: Command, io: Io): void {
  const below = (name: string) =>
    exit
      .enablePositionalOptions()
      .command(name)
      .option('--socket <path>', 'unix socket of the exit')
      .option('--state-dir <dir>', 'state directory of the exit')
      .option('--json', 'print it as JSON');

  below('status')
    .summary('show what this exit lends, and what it refused')
    .description(
      'Shows the contract of the exit that runs on this machine: how much it lends and when, where clients never get, what was refused, who is there now and what went through today. The kernel keeps it, whether the daemon runs or not.',
    )
    .addHelpText('after', '\nExamples:\n  vpnd exit status\n  vpnd exit status --json')
    .action(async (options: ExitOptions, command: Command) => {
      refuseDaemonFlags(command);
      print(await (await daemonOf(options, io)).status(), options, io);
    });

  below('pause')
    .summary('have the line back for a while')
    .description(
      'Lets nobody in any more and has clients go to other exits, make before break. Whoever is still there after two and a half minutes is put out. It lasts until `vpnd exit resume`, through restarts, or as long as --for says.',
    )
    .option('--for <duration>', 'open again by itself after this long')
    .addHelpText('after', '\nExamples:\n  vpnd exit pause --for 3h\n  vpnd exit pause')
    .action(async (options: ExitOptions, command: Command) => {
      refuseDaemonFlags(command);
      const forMs = check('--for', options.for, duration(seconds(1), days(365))) ?? 0;
      print(await (await daemonOf(options, io)).pause(forMs), options, io);
    });

  below('resume')
    .summary('lend it again')
    .description('Ends a pause. The exit is open again if its hours say so.')
    .addHelpText('after', '\nExamples:\n  vpnd exit resume')
    .action(async (options: ExitOptions, command: Command) => {
      refuseDaemonFlags(command);
      print(await (await daemonOf(options, io)).resume(), options, io);
    });
}

function daemonOf({ socket, stateDir }: ExitOptions, io: Io) {
  const chosen = { ...(socket === undefined ? {} : { socket }), ...(stateDir === undefined ? {} : { stateDir }) };
  return findDaemon(chosen, 'exit', io);
}

function print(status: NodeStatus, { json }: ExitOptions, io: Io): void {
  const { contract } = status;
  if (contract === undefined) throw new VpndError('not-supported', 'this is no exit: it has no contract to show');
  if (json !== true) {
    io.out(contractText(status, contract, Date.now()));
    return;
  }
  const text = toJsonString(ExitContractSchema, contract, { alwaysEmitImplicit: true });
  io.out(`${JSON.stringify({ ...(JSON.parse(text) as object), sessions: status.sessions.length })}\n`);
}

/** `vpnd exit --max-mbps 5 status` would change nothing, and show the status without a word about the flag. */
function refuseDaemonFlags(command: Command): void {
  const daemon = command.parent;
  const given = Object.keys(daemon?.opts() ?? {}).find((name) => daemon?.getOptionValueSource(name) === 'cli');
  if (given === undefined) return;
  const flag = daemon?.options.find((option) => option.attributeName() === given)?.long ?? given;
  throw new UsageError(
    `${flag} before \`${command.name()}\` is for running an exit; flags of \`${command.name()}\` stand after it`,
  );
}
