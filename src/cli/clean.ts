import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { lockdownFileIn } from '../../dataplane/lockdown-file.js';
import { openSodium } from '../identity/sodium.js';
import { openStateDir } from '../identity/state-dir.js';
import { VpndError } from '../model/errors.js';
import { openLog } from '../obs/log.js';
import { systemClock } from '../roles/common/system-clock.js';
import { parseRole } from './find-daemon.js';
import { type Io, UsageError } from './io.js';
import { requirePrivileges } from './privileges.js';

interface CleanOptions {
  readonly role: string;
  readonly stateDir?: string;
  readonly json?: boolean;
}

export function cleanCommand(program: Command, io: Io): void {
  program
    .command('clean')
    .summary('remove what a stopped daemon left in the kernel')
    .description(
      'Removes the interfaces, routes, rules and nftables tables that a daemon of this role left on this machine. Refused while it runs, and for a client while lockdown is on. The resolver is what it was before a client. Keys and database stay.',
    )
    .requiredOption('--role <role>', 'supernode, exit or client')
    .option('--state-dir <dir>', 'state directory of the daemon (default: /var/lib/vpnd/<role>)')
    .option('--json', 'print what was removed as JSON')
    .addHelpText('after', '\nExample:\n  vpnd clean --role client')
    .action(async (options: CleanOptions) => {
      const role = parseRole(options.role);
      if (role === 'base') throw new UsageError('--role: base leaves nothing in the kernel');
      await requirePrivileges('vpnd clean');
      const dir = options.stateDir ?? `/var/lib/vpnd/${role}`;
      // Whoever tidies up does not mean to open this machine.
      if (role === 'client' && existsSync(lockdownFileIn(dir))) {
        throw new VpndError(
          'forbidden',
          'lockdown is on: nothing leaves this machine but by a tunnel; first vpnd lockdown off, then vpnd clean',
        );
      }
      const { crypto } = await openSodium();
      // Its lock is how a running daemon is noticed; without a directory none has ever run.
      const state = existsSync(dir) ? openStateDir(dir, crypto) : undefined;
      try {
        const removed = await removeAll(role);
        if (options.json) io.out(`${JSON.stringify({ removed })}\n`);
        else io.out(removed.length === 0 ? 'nothing was left\n' : removed.map((line) => `removed ${line}\n`).join(''));
      } finally {
        state?.close();
      }
    });
}

async function removeAll(role: 'supernode' | 'exit' | 'client'): Promise<readonly string[]> {
  const { openLinuxDns } = await import('../../dataplane/dns-linux.js');
  const { openLinuxDataPlane } = await import('../../dataplane/linux.js');
  const log = openLog({ level: 'error', privacy: 'strict', role });
  const dataplane = await openLinuxDataPlane({ owner: role, engine: 'auto', clock: systemClock(), log });
  try {
    // Names first, as with `vpnd down`: the tunnel's resolvers are not for this machine's own address.
    const names = role === 'client' ? await openLinuxDns().restore([]) : [];
    return [...names, ...(await dataplane.reconcile([])).removed];
  } finally {
    await dataplane.close();
  }
}
