import type { Command } from 'commander';
import { duration } from '../config/values.js';
import { hours, seconds } from '../model/time.js';
import { type DaemonChoice, findDaemon, withDaemonChoice } from './find-daemon.js';
import { type Io, UsageError } from './io.js';
import { withPatience } from './patience.js';
import { statusJson } from './status.js';
import { tunnelLine } from './status-text.js';
import { check } from './up.js';

interface RotateOptions extends DaemonChoice {
  readonly reason?: string;
  readonly timeout: string;
  readonly json?: boolean;
}

const REASON_LIMIT = 200;

export function rotateCommand(program: Command, io: Io): void {
  withDaemonChoice(program.command('rotate'))
    .summary('go over to another exit')
    .description(
      'Goes over to another exit, make before break: the new tunnel is up before the traffic moves, and what is open stays on the old one until it ends, two minutes at most. Answers when the new exit carries the traffic.',
    )
    .option('--reason <text>', 'why, for `vpnd events`')
    .option('--timeout <duration>', 'wait for it no longer than this', '30s')
    .option('--json', 'print the resulting status as JSON')
    .addHelpText('after', '\nExamples:\n  vpnd rotate\n  vpnd rotate --reason "a slow film"')
    .action(async (options: RotateOptions) => {
      const reason = options.reason ?? '';
      if (reason.length > REASON_LIMIT || /\p{Cc}/u.test(reason)) {
        throw new UsageError(`--reason: must be one line of at most ${REASON_LIMIT} characters`);
      }
      const limit = check('--timeout', options.timeout, duration(seconds(0.1), hours(1))) ?? seconds(30);
      const api = await findDaemon(options, 'client', io);
      const status = await withPatience(
        io,
        limit,
        `no other exit within ${options.timeout}; \`vpnd status\` tells what is in use`,
        (signal) => api.rotate({ reason }, signal),
      );
      io.out(options.json ? statusJson(status) : `rotated: ${tunnelLine(status)}\n`);
    });
}
