import { toJsonString } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { amount, country, duration, oneOf, type Parse, region } from '../config/values.js';
import { type NodeStatus, NodeStatusSchema } from '../gen/vpnd/v1/admin_pb.js';
import { Privacy } from '../gen/vpnd/v1/types_pb.js';
import { hours, seconds } from '../model/time.js';
import { NAMES_OUTSIDE } from '../roles/client/dns.js';
import { type DaemonChoice, findDaemon, withDaemonChoice } from './find-daemon.js';
import { type Io, UsageError } from './io.js';
import { withPatience } from './patience.js';
import { activeSession, tunnelLine } from './status-text.js';
import { latency, plain } from './text.js';

interface UpOptions extends DaemonChoice {
  readonly region?: string;
  readonly country?: string;
  readonly pool?: string;
  readonly exit?: string;
  readonly privacy?: string;
  readonly minMbps?: string;
  readonly maxLatency?: string;
  readonly timeout: string;
  readonly json?: boolean;
}

export function upCommand(program: Command, io: Io): void {
  withDaemonChoice(program.command('up'))
    .summary('send all traffic of this machine through an exit')
    .description('Asks for an exit and sends all traffic of this machine through it. Answers when traffic flows.')
    .option('--region <region>', 'an exit in this region')
    .option('--country <code>', 'an exit in this country')
    .option('--pool <label>', 'an exit of this pool')
    .option('--exit <id>', 'this exit: its peer id, or an unambiguous beginning of it')
    .option(
      '--privacy <mode>',
      "auto: direct where it works, else relayed; direct: try hard to go direct; private: never, always two supernodes (default: the daemon's setting)",
    )
    .option('--min-mbps <number>', 'an exit that lends at least this bandwidth')
    .option('--max-latency <duration>', 'an exit within this round trip, such as 80ms')
    .option('--timeout <duration>', 'give up after this time', '30s')
    .option('--json', 'print the resulting status as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  vpnd up\n  vpnd up --region eu --privacy private\n  vpnd up --country DE --timeout 10s',
    )
    .action(async (options: UpOptions) => {
      const request = {
        region: check('--region', options.region, region) ?? '',
        country: check('--country', options.country, country) ?? '',
        pool: options.pool ?? '',
        exit: options.exit ?? '',
        privacy: PRIVACY[check('--privacy', options.privacy, oneOf('auto', 'direct', 'private')) ?? 'unspecified'],
        minMbps: check('--min-mbps', options.minMbps, amount) ?? 0,
        maxLatencyMs: check('--max-latency', options.maxLatency, duration(seconds(0.001), seconds(60))) ?? 0,
      };
      const limit = check('--timeout', options.timeout, duration(seconds(0.1), hours(1))) ?? seconds(30);
      const api = await findDaemon(options, 'client', io);
      const status = await withPatience(
        io,
        limit,
        `no exit within ${options.timeout}; \`vpnd status\` tells what is wrong`,
        (signal) => api.up(request, signal),
      );
      io.out(options.json ? `${toJsonString(NodeStatusSchema, status)}\n` : summary(status));
    });
}

const PRIVACY = {
  auto: Privacy.AUTO,
  direct: Privacy.DIRECT,
  private: Privacy.PRIVATE,
  unspecified: Privacy.UNSPECIFIED,
} as const;

function summary(status: NodeStatus): string {
  const session = activeSession(status);
  if (session === undefined) return 'no session\n';
  const first = session.firstPacketMs > 0 ? `, first packet after ${latency(session.firstPacketMs)}` : '';
  const ipv6 = session.ipv6 ? '' : '; the exit has no IPv6, so IPv6 is blocked here';
  const names = status.problems
    .filter((problem) => problem.startsWith(NAMES_OUTSIDE))
    .map((line) => `${plain(line)}\n`);
  return `${session.state}: ${tunnelLine(status)}${first}${ipv6}\n${names.join('')}`;
}

/** A flag's value, or a UsageError that names the flag. */
export function check<T>(flag: string, text: string | undefined, parse: Parse<T>): T | undefined {
  if (text === undefined) return undefined;
  const parsed = parse(text);
  if (!parsed.ok) throw new UsageError(`${flag}: '${text}' ${parsed.error}`);
  return parsed.value;
}
