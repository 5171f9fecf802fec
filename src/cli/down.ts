import { toJsonString } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { type DownResponse, DownResponseSchema } from '../gen/vpnd/v1/admin_pb.js';
import { type DaemonChoice, findDaemon, withDaemonChoice } from './find-daemon.js';
import type { Io } from './io.js';

export function downCommand(program: Command, io: Io): void {
  withDaemonChoice(program.command('down'))
    .summary('take the tunnel down again')
    .description('Takes the tunnel down and gives the exit back.')
    .option('--json', 'print the answer as JSON')
    .addHelpText('after', '\nExample:\n  vpnd down')
    .action(async (options: DaemonChoice & { readonly json?: boolean }) => {
      const api = await findDaemon(options, 'client', io);
      const answer = await api.down();
      if (options.json) io.out(`${toJsonString(DownResponseSchema, answer, { alwaysEmitImplicit: true })}\n`);
      else io.out(`${textOf(answer)}\n`);
    });
}

function textOf({ wasUp, releasedEverywhere, lockedDown }: DownResponse): string {
  const done = !wasUp
    ? 'nothing was up'
    : releasedEverywhere
      ? 'down'
      : 'down here; the supernode could not be told, and frees its side when the lease ends';
  // Whoever typed this may be waiting for a page to load.
  return lockedDown ? `${done}\n${HELD}` : done;
}

const HELD =
  'lockdown is on: nothing leaves this machine now; `vpnd up` for a tunnel, `vpnd lockdown off` to let everything out';
