import { toJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { region } from '../config/values.js';
import { type ExitSummary, ExitSummarySchema } from '../gen/vpnd/v1/admin_pb.js';
import { shortId } from '../model/ids.js';
import { type DaemonChoice, findDaemon, withDaemonChoice } from './find-daemon.js';
import type { Io } from './io.js';
import { latency, plain, table } from './text.js';
import { check } from './up.js';

interface ExitsOptions extends DaemonChoice {
  readonly region?: string;
  readonly json?: boolean;
}

export function exitsCommand(program: Command, io: Io): void {
  withDaemonChoice(program.command('exits'))
    .summary('list the exits there are')
    .description('Lists the exits that `vpnd up` can ask for.')
    .option('--region <region>', 'only of this region')
    .option('--json', 'print them as JSON')
    .addHelpText('after', '\nExamples:\n  vpnd exits\n  vpnd exits --region eu --json')
    .action(async (options: ExitsOptions) => {
      const wanted = check('--region', options.region, region) ?? '';
      const api = await findDaemon(options, 'client', io);
      const exits = await api.listExits({ region: wanted });
      if (options.json) {
        const all = exits.map((exit) => toJson(ExitSummarySchema, exit, { alwaysEmitImplicit: true }));
        io.out(`${JSON.stringify(all)}\n`);
      } else io.out(exits.length === 0 ? 'no exits at present\n' : exitTable(exits));
    });
}

const exitTable = (exits: readonly ExitSummary[]): string =>
  table(
    ['EXIT', 'REGION', 'COUNTRY', 'POOL', 'IPV6', 'LATENCY', 'SESSIONS', 'SUPERNODE'],
    exits.map((exit) => [
      `${shortId(exit.peerId)}${exit.egress ? ' *' : ''}`,
      plain(exit.region) || '-',
      plain(exit.country) || '-',
      plain(exit.pool) || '-',
      exit.ipv6 ? 'yes' : 'no',
      latency(exit.latencyMs),
      `${exit.sessions}/${exit.sessionCapacity}`,
      shortId(exit.supernodeId) || '-',
    ]),
  ) + (exits.some((exit) => exit.egress) ? '\n* the egress of a supernode\n' : '');
