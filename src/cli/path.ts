import type { Command } from 'commander';
import { duration, oneOf } from '../config/values.js';
import { Path } from '../gen/vpnd/v1/types_pb.js';
import { hours, seconds } from '../model/time.js';
import { type DaemonChoice, findDaemon, withDaemonChoice } from './find-daemon.js';
import type { Io } from './io.js';
import { withPatience } from './patience.js';
import { statusJson } from './status.js';
import { activeSession, pathName, tunnelLine } from './status-text.js';
import { check } from './up.js';

interface PathOptions extends DaemonChoice {
  readonly timeout: string;
  readonly json?: boolean;
}

const WIRE = { direct: Path.DIRECT, relay: Path.RELAY, auto: Path.UNSPECIFIED } as const;

export function pathCommand(program: Command, io: Io): void {
  withDaemonChoice(program.command('path'))
    .summary('have the traffic go straight to the exit, or over supernodes')
    .description(
      'Has the present session take another path, with no packet lost: direct goes straight to the exit, which then learns the address of this machine; relay goes over supernodes, and stays there; auto takes what is best, as after `vpnd up`. Answers when the traffic goes that way, or with why it cannot.',
    )
    .argument('<direct|relay|auto>', 'the path it is to take')
    .option('--timeout <duration>', 'give up after this time', '15s')
    .option('--json', 'print the resulting status as JSON')
    .addHelpText('after', '\nExamples:\n  vpnd path direct\n  vpnd path relay\n  vpnd path auto')
    .action(async (wanted: string, options: PathOptions) => {
      const path = check('path', wanted, oneOf('direct', 'relay', 'auto')) ?? 'auto';
      const limit = check('--timeout', options.timeout, duration(seconds(0.1), hours(1))) ?? seconds(15);
      const api = await findDaemon(options, 'client', io);
      const status = await withPatience(
        io,
        limit,
        `no answer about the path within ${options.timeout}; \`vpnd status\` tells which is in use`,
        (signal) => api.setPath({ path: WIRE[path] }, signal),
      );
      const taken = pathName(activeSession(status)?.path ?? Path.UNSPECIFIED);
      io.out(options.json ? statusJson(status) : `path: ${taken}, ${tunnelLine(status)}\n`);
    });
}
