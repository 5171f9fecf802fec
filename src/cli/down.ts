import { toJsonString } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { DownResponseSchema } from '../gen/vpnd/v1/admin_pb.js';
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
      else if (!answer.wasUp) io.out('nothing was up\n');
      else if (answer.releasedEverywhere) io.out('down\n');
      else io.out('down here; the supernode could not be told, and frees its side when the lease ends\n');
    });
}
