import { toJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { duration } from '../config/values.js';
import { type DrainProgress, DrainProgressSchema } from '../gen/vpnd/v1/admin_pb.js';
import { VpndError } from '../model/errors.js';
import { hours, seconds } from '../model/time.js';
import { findDaemon } from './find-daemon.js';
import { type ExitStatus, type Io, UsageError } from './io.js';
import { check } from './up.js';

interface DrainOptions {
  readonly socket?: string;
  readonly stateDir?: string;
  readonly timeout?: string;
  readonly json?: boolean;
}

/** `vpnd supernode drain`, beside what runs a supernode. */
export function drainCommand(supernode: Command, io: Io, outcome: { status: ExitStatus }): void {
  supernode
    .enablePositionalOptions()
    .command('drain')
    .summary('have everybody go elsewhere, before an upgrade or for good')
    .description(
      'Has the supernode that runs on this machine empty itself: it takes no new sessions, and its clients and exits go over to other supernodes, make before break. Shows how many are left. Ends with status 0 when nobody is, with 1 when the time is over before. Interrupted, it leaves the drain going. A supernode that has drained takes nobody in until it is started anew.',
    )
    .option('--socket <path>', 'unix socket of the supernode')
    .option('--state-dir <dir>', 'state directory of the supernode')
    .option('--timeout <duration>', 'how long to wait for them (default: its --drain-timeout)')
    .option('--json', 'print every step as a line of JSON')
    .addHelpText('after', '\nExamples:\n  vpnd supernode drain\n  vpnd supernode drain --timeout 2m')
    .action(async (options: DrainOptions, command: Command) => {
      refuseDaemonFlags(command);
      const timeout = check('--timeout', options.timeout, duration(seconds(1), hours(24)));
      const { socket, stateDir } = options;
      const chosen = { ...(socket === undefined ? {} : { socket }), ...(stateDir === undefined ? {} : { stateDir }) };
      const api = await findDaemon(chosen, 'supernode', io);
      const stop = new AbortController();
      const unlisten = io.onSignal(() => stop.abort());
      let last: DrainProgress | undefined;
      try {
        for await (const progress of api.drain({ timeoutMs: BigInt(timeout ?? 0) }, stop.signal)) {
          last = progress;
          io.out(options.json ? jsonLine(progress) : `${progressLine(progress)}\n`);
        }
      } finally {
        unlisten();
      }
      if (last?.done || last?.timedOut) {
        if (last.timedOut) outcome.status = 1;
        return;
      }
      outcome.status = 1;
      if (!stop.signal.aborted) throw new VpndError('closed', 'the supernode ended before everybody had gone');
      io.err('vpnd: the drain goes on; `vpnd supernode drain` looks again, `vpnd status` shows who is left\n');
    });
}

/** `vpnd supernode --egress drain` would start nothing and drain without a word about the flag. */
export function refuseDaemonFlags(command: Command): void {
  const daemon = command.parent;
  const given = Object.keys(daemon?.opts() ?? {}).find((name) => daemon?.getOptionValueSource(name) === 'cli');
  if (given === undefined) return;
  const flag = daemon?.options.find((option) => option.attributeName() === given)?.long ?? given;
  throw new UsageError(
    `${flag} before \`${command.name()}\` is for running a supernode; flags of \`${command.name()}\` stand after it`,
  );
}

const jsonLine = (progress: DrainProgress): string =>
  `${JSON.stringify(toJson(DrainProgressSchema, progress, { alwaysEmitImplicit: true }))}\n`;

function progressLine({ sessions, streams, done, timedOut }: DrainProgress): string {
  const left = `${count(sessions, 'session')} and ${count(streams, 'stream')}`;
  if (timedOut) return `the time is over: ${left} left, which go on for as long as this supernode runs`;
  if (done) return 'empty: nobody is left, and the supernode can be stopped';
  return `draining: ${left} left`;
}

const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? '' : 's'}`;
