import { toJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { duration } from '../config/values.js';
import { RotateKeyResponseSchema } from '../gen/vpnd/v1/admin_pb.js';
import type { Role } from '../model/role.js';
import { days, seconds } from '../model/time.js';
import { type DaemonChoice, findDaemon, withDaemonChoice } from './find-daemon.js';
import type { Io } from './io.js';
import { check } from './up.js';

interface RotateOptions extends DaemonChoice {
  readonly reason?: string;
  readonly overlap?: string;
  readonly now?: boolean;
  readonly json?: boolean;
}

/** `vpnd keys rotate …`: each kind of key, whose it is, and what `--overlap` is to it. */
export function keysCommand(program: Command, io: Io): void {
  const keys = program
    .command('keys')
    .summary('replace keys, with no session lost')
    .description('Has a key of a node on this machine replaced by another one, with no session lost.');
  const rotate = keys.command('rotate').summary('replace a key').description('Replaces a key of a node here.');

  const kind = (what: string, role: Role | undefined, summary: string, description: string, overlap: string) => {
    const command = withDaemonChoice(rotate.command(what)).summary(summary).description(description);
    if (overlap !== '') command.option('--overlap <duration>', overlap);
    command
      .option('--reason <text>', 'why, for `vpnd events` and the audit log')
      .option('--json', 'print the answer as JSON');
    return command.action((options: RotateOptions) => run(what, role, options, io));
  };

  kind(
    'wireguard',
    'exit',
    "an exit's WireGuard key",
    'Gives new sessions of this exit another WireGuard key at once. The one before stays until its sessions are over; those left after an hour are asked to move, make before break. Exits do so by themselves (--wireguard-key-every).',
    '',
  )
    .option('--now', 'ask sessions to move at once')
    .addHelpText('after', '\nExamples:\n  vpnd keys rotate wireguard\n  vpnd keys rotate wireguard --now');
  kind(
    'ca',
    'base',
    "the overlay's certificate authority",
    'Makes another CA. For half of the overlap it is only published; then certificates are issued by it; in the end the one before does not count any more. Nodes that were away all the time come back by base. Run on the machine of base.',
    'how long both count; at least, and unless given, two lifetimes of a certificate',
  ).addHelpText('after', '\nExamples:\n  vpnd keys rotate ca\n  vpnd keys rotate ca --overlap 7d');
  kind(
    'base',
    'base',
    'the key that base signs memberships with',
    'Makes another key for what base signs. For half of the overlap it is only published; then it signs; in the end what the one before has signed does not count any more. Nodes that were away all the time come back by base. Run on the machine of base.',
    'how long both count; at least, and unless given, two lifetimes of a membership',
  ).addHelpText('after', '\nExample:\n  vpnd keys rotate base');
}

async function run(what: string, role: Role | undefined, options: RotateOptions, io: Io): Promise<void> {
  const overlap = check('--overlap', options.overlap, duration(seconds(1), days(365)));
  const api = await findDaemon(options, role, io);
  const { now = false, reason = '' } = options;
  const done = await api.rotateKey({ what, now, reason, overlapMs: BigInt(overlap ?? 0) });
  if (options.json) io.out(`${JSON.stringify(toJson(RotateKeyResponseSchema, done, { alwaysEmitImplicit: true }))}\n`);
  else io.out(`${done.text}\n`);
}
