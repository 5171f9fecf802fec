import { toJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { type RevokeMemberResponse, RevokeMemberResponseSchema } from '../gen/vpnd/v1/admin_pb.js';
import { refuseDaemonFlags } from './drain.js';
import { findDaemon } from './find-daemon.js';
import type { Io } from './io.js';
import { type BaseChoice, withBaseChoice } from './token.js';

interface RevokeOptions extends BaseChoice {
  readonly reason?: string;
}

const PEER = 'its peer id, or a beginning of it, as `vpnd members` shows it';

export function revokeCommands(program: Command, io: Io): void {
  withBaseChoice(program.command('revoke'))
    .summary('shut an exit or a client out')
    .description(
      'Shuts an exit or a client out of the overlay: its streams and sessions end everywhere within a second, and no join token lets its identity in again. `vpnd unrevoke` takes it back. Run on the machine of base.',
    )
    .argument('<peer>', PEER)
    .option('--reason <text>', 'why, for `vpnd members`; it stays on base')
    .addHelpText('after', '\nExample:\n  vpnd revoke k3vq7a2m --reason "laptop stolen"')
    .action((peer: string, options: RevokeOptions) => shutOut(peer, false, options, io));

  withBaseChoice(program.command('unrevoke'))
    .summary('let an exit or a client in again')
    .description(
      'Takes `vpnd revoke` back: the node connects again by itself, with the membership it has, or renews it.',
    )
    .argument('<peer>', PEER)
    .addHelpText('after', '\nExample:\n  vpnd unrevoke k3vq7a2m')
    .action((peer: string, options: BaseChoice) => letIn(peer, false, options, io));
}

/** `vpnd supernode ban` and `unban`, beside what runs a supernode. */
export function banCommands(supernode: Command, io: Io): void {
  withBaseChoice(supernode.command('ban'))
    .summary('shut a supernode out, on the machine of base')
    .description(
      'Shuts a supernode out of the overlay: base publishes it no more, peers leave it, other supernodes refuse it and end the sessions that go through it, all within a second. Run on the machine of base.',
    )
    .argument('<id>', PEER)
    .option('--reason <text>', 'why, for `vpnd members`; it stays on base')
    .addHelpText('after', '\nExample:\n  vpnd supernode ban k3vq7a2m --reason "broken into"')
    .action((peer: string, options: RevokeOptions, command: Command) => {
      refuseDaemonFlags(command);
      return shutOut(peer, true, options, io);
    });

  withBaseChoice(supernode.command('unban'))
    .summary('let a supernode in again, on the machine of base')
    .description('Takes `vpnd supernode ban` back: the supernode connects again by itself and is published.')
    .argument('<id>', PEER)
    .addHelpText('after', '\nExample:\n  vpnd supernode unban k3vq7a2m')
    .action((peer: string, options: BaseChoice, command: Command) => {
      refuseDaemonFlags(command);
      return letIn(peer, true, options, io);
    });
}

async function shutOut(peer: string, supernode: boolean, options: RevokeOptions, io: Io): Promise<void> {
  const api = await findDaemon(chosen(options), 'base', io);
  const done = await api.revokeMember({ peer: asTyped(peer), supernode, reason: options.reason ?? '' });
  if (options.json) return json(done, io);
  io.out(
    done.changed
      ? `${done.peerId} is shut out (epoch ${done.epoch}); ${supernodes(done.told)} told at once\n`
      : `${done.peerId} was shut out already\n`,
  );
}

async function letIn(peer: string, supernode: boolean, options: BaseChoice, io: Io): Promise<void> {
  const api = await findDaemon(chosen(options), 'base', io);
  const done = await api.unrevokeMember({ peer: asTyped(peer), supernode });
  if (options.json) return json(done, io);
  io.out(
    done.changed
      ? `${done.peerId} is let in again (epoch ${done.epoch}); ${supernodes(done.told)} told at once\n`
      : `${done.peerId} was not shut out\n`,
  );
}

const json = (done: RevokeMemberResponse, io: Io): void =>
  io.out(`${JSON.stringify(toJson(RevokeMemberResponseSchema, done, { alwaysEmitImplicit: true }))}\n`);

const chosen = ({ socket, stateDir }: BaseChoice): BaseChoice => ({
  ...(socket === undefined ? {} : { socket }),
  ...(stateDir === undefined ? {} : { stateDir }),
});

/** Copied out of a sentence or a table, an id may have blanks around it. */
const asTyped = (peer: string): string => peer.trim();

const supernodes = (told: number): string => (told === 1 ? '1 supernode was' : `${told} supernodes were`);
