import { toJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { ListMembersResponseSchema, type MemberSummary } from '../gen/vpnd/v1/admin_pb.js';
import { findDaemon } from './find-daemon.js';
import type { Io } from './io.js';
import { roleName } from './status-text.js';
import { moment, plain, table } from './text.js';
import { type BaseChoice, withBaseChoice } from './token.js';

/** As much of a peer id as commands need to tell members apart, and as logs show. */
const SHOWN = 16;

export function membersCommand(program: Command, io: Io): void {
  withBaseChoice(program.command('members'))
    .summary('list who is enrolled, and who was shut out')
    .description(
      'Lists the nodes that are members of this overlay, the latest first, and those that were shut out. Run on the machine of base.',
    )
    .option('--revoked', 'only those that were shut out')
    .addHelpText('after', '\nExamples:\n  vpnd members\n  vpnd members --revoked --json')
    .action(async (options: BaseChoice & { readonly revoked?: boolean }) => {
      const api = await findDaemon(options, 'base', io);
      const found = await api.listMembers();
      const listed = options.revoked ? found.members.filter((one) => one.revokedMs > 0n) : found.members;
      const members = [...listed].sort((a, b) => Number(b.enrolledMs - a.enrolledMs));
      if (options.json) {
        const { members: json, epoch } = toJson(
          ListMembersResponseSchema,
          { ...found, members },
          { alwaysEmitImplicit: true },
        ) as { readonly members: unknown; readonly epoch: string };
        io.out(`${JSON.stringify({ epoch, members: json })}\n`);
      } else if (members.length === 0) {
        io.out(options.revoked ? 'nobody is shut out\n' : 'no members yet; `vpnd token create` invites one\n');
      } else io.out(memberTable(members));
    });
}

const memberTable = (members: readonly MemberSummary[]): string =>
  table(
    ['PEER', 'ROLE', 'REGION', 'POOL', 'TOKEN', 'ENROLLED', 'STATE'],
    members.map((one) => [
      one.peerId.slice(0, SHOWN),
      one.roles.map(roleName).join('+') || '-',
      plain(one.region) || '-',
      plain(one.pool) || '-',
      plain(one.tokenId) || '-',
      moment(Number(one.enrolledMs)),
      stateOf(one),
    ]),
  );

function stateOf({ revokedMs, reason }: MemberSummary): string {
  if (revokedMs === 0n) return 'member';
  const why = reason === '' ? '' : `: ${plain(reason)}`;
  return `shut out ${moment(Number(revokedMs))}${why}`;
}
