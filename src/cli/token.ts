import { toJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { duration, integer, oneOf, region } from '../config/values.js';
import { CreateTokenResponseSchema, type TokenSummary, TokenSummarySchema } from '../gen/vpnd/v1/admin_pb.js';
import { Role as WireRole } from '../gen/vpnd/v1/types_pb.js';
import { days, minutes } from '../model/time.js';
import { findDaemon } from './find-daemon.js';
import { type Io, UsageError } from './io.js';
import { roleName } from './status-text.js';
import { moment, plain, table } from './text.js';
import { check } from './up.js';

export interface BaseChoice {
  readonly socket?: string;
  readonly stateDir?: string;
  readonly json?: boolean;
}
interface CreateOptions extends BaseChoice {
  readonly role: string;
  readonly region: string;
  readonly pool?: string;
  readonly ttl: string;
  readonly uses: string;
  readonly note?: string;
  readonly egress?: boolean;
}

const WIRE = { supernode: WireRole.SUPERNODE, exit: WireRole.EXIT, client: WireRole.CLIENT } as const;

/** base's daemon; --role says here whom a token is for. */
export const withBaseChoice = (command: Command): Command =>
  command
    .option('--socket <path>', 'unix socket of base')
    .option('--state-dir <dir>', 'state directory of base')
    .option('--json', 'print the answer as JSON');

export function tokenCommand(program: Command, io: Io): void {
  const token = program
    .command('token')
    .summary('make, list and revoke join tokens')
    .description('Join tokens: what a node needs to enrol with base. Run on the machine of base.');

  withBaseChoice(token.command('create'))
    .summary('make a join token')
    .description('Makes a join token and prints it, this one time only: base keeps a hash of it.')
    .requiredOption('--role <role>', 'supernode, exit or client')
    .requiredOption('--region <region>', 'region of the nodes that join with it')
    .option('--egress', 'with --role supernode: they may be exits too (vpnd supernode --egress)')
    .option('--pool <label>', 'label that requests for an exit may name')
    .option('--ttl <duration>', 'how long it can be used', '24h')
    .option('--uses <count>', 'how many nodes may join with it', '1')
    .option('--note <text>', 'what it is for, shown by `vpnd token list`')
    .addHelpText(
      'after',
      '\nExamples:\n  vpnd token create --role exit --region eu\n  vpnd token create --role client --region eu --ttl 1h --uses 20 --note workshop\n  vpnd token create --role supernode --region eu --egress',
    )
    .action(async (options: CreateOptions) => {
      const role = check('--role', options.role, oneOf('supernode', 'exit', 'client')) ?? 'client';
      const request = {
        role: WIRE[role],
        region: check('--region', options.region, region) ?? '',
        pool: options.pool ?? '',
        ttlMs: BigInt(check('--ttl', options.ttl, duration(minutes(1), days(3650))) ?? 0),
        uses: check('--uses', options.uses, integer(1, 1_000_000)) ?? 1,
        note: options.note ?? '',
        egress: options.egress ?? false,
      };
      // Without --role: here it does not say which daemon to ask.
      const { socket, stateDir } = options;
      const chosen = { ...(socket === undefined ? {} : { socket }), ...(stateDir === undefined ? {} : { stateDir }) };
      const api = await findDaemon(chosen, 'base', io);
      const made = await api.createToken(request);
      if (options.json) {
        io.out(`${JSON.stringify(toJson(CreateTokenResponseSchema, made, { alwaysEmitImplicit: true }))}\n`);
        return;
      }
      // The token alone on standard output, so that it can go into a file; the rest is for whoever looks.
      io.out(`${made.token}\n`);
      const until = made.summary === undefined ? '' : ` until ${moment(Number(made.summary.expiresMs))}`;
      io.err(
        `token ${made.summary?.tokenId ?? ''} for ${request.uses} ${role}(s) in ${request.region}${request.egress ? ', which may be exits too,' : ''}${until}; it is not shown again\n`,
      );
    });

  withBaseChoice(token.command('list'))
    .summary('list join tokens')
    .description('Lists the join tokens that base knows, without their secrets.')
    .addHelpText('after', '\nExample:\n  vpnd token list')
    .action(async (options: BaseChoice) => {
      const api = await findDaemon(options, 'base', io);
      const tokens = await api.listTokens();
      if (options.json) {
        const all = tokens.map((t) => toJson(TokenSummarySchema, t, { alwaysEmitImplicit: true }));
        io.out(`${JSON.stringify(all)}\n`);
      } else
        io.out(tokens.length === 0 ? 'no tokens; `vpnd token create` makes one\n' : tokenTable(tokens, Date.now()));
    });

  withBaseChoice(token.command('revoke'))
    .summary('make a join token useless')
    .description('Makes a join token useless from now on. Nodes that joined with it stay members.')
    .argument('<id>', 'the id that `vpnd token list` shows')
    .addHelpText('after', '\nExample:\n  vpnd token revoke 1a2b3c4d')
    .action(async (id: string, options: BaseChoice) => {
      if (!/^[0-9a-f]{8}$/.test(id)) {
        throw new UsageError(
          'the id of a token is 8 hexadecimal digits, as `vpnd token list` shows it (not the token)',
        );
      }
      const api = await findDaemon(options, 'base', io);
      await api.revokeToken(id);
      io.out(options.json ? `${JSON.stringify({ revoked: id })}\n` : `token ${id} is revoked\n`);
    });
}

function tokenTable(tokens: readonly TokenSummary[], now: number): string {
  const state = (t: TokenSummary): string => {
    if (t.revoked) return 'revoked';
    if (Number(t.expiresMs) <= now) return 'expired';
    return t.usesLeft === 0 ? 'used up' : 'open';
  };
  return table(
    ['TOKEN', 'ROLE', 'REGION', 'POOL', 'STATE', 'USES', 'EXPIRES', 'NOTE'],
    tokens.map((t) => [
      t.tokenId,
      t.egress ? `${roleName(t.role)}+exit` : roleName(t.role),
      plain(t.region),
      plain(t.pool) || '-',
      state(t),
      `${t.uses - t.usesLeft}/${t.uses}`,
      moment(Number(t.expiresMs)),
      plain(t.note),
    ]),
  );
}
