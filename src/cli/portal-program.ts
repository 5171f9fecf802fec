import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ExcludedGroup } from '../../dataplane/excluded-programs.js';
import { findProgram } from '../../dataplane/run.js';
import { VpndError } from '../model/errors.js';
import type { Account } from './account.js';

const MAIN = fileURLToPath(new URL('./portal-program-main.js', import.meta.url));

/** What the process that becomes the program is told, on its first argument. */
export interface PortalProgram {
  readonly name: string;
  readonly args: readonly string[];
  /** Undefined for root. */
  readonly account: Account | undefined;
  readonly group: ExcludedGroup;
  readonly resolvers: readonly string[];
}

/**
 * Starts a program in the control group, with mounts of its own: there /etc/resolv.conf names the network's resolvers, while
 * everybody else's names stay in the tunnel. Throws VpndError `no-tool`.
 */
export async function startInPortal(what: PortalProgram & { readonly env: NodeJS.ProcessEnv }): Promise<ChildProcess> {
  const unshare = findProgram('unshare');
  if (unshare === undefined) {
    throw new VpndError('no-tool', 'unshare is not installed; install it: apt-get install util-linux');
  }
  const { env, ...program } = what;
  return spawn(unshare, ['--mount', '--', process.execPath, MAIN, JSON.stringify(program)], { env, stdio: 'inherit' });
}
