import { checkRoot } from '../../dataplane/detect.js';
import { VpndError } from '../model/errors.js';

/** Throws `no-root` where interfaces and nftables cannot be changed. `what` is the command that would. */
export async function requirePrivileges(what: string, otherwise = ''): Promise<void> {
  const found = await checkRoot();
  if (found.ok) return;
  throw new VpndError(
    'no-root',
    `${what} changes interfaces and nftables: run it as root or with CAP_NET_ADMIN${otherwise}`,
    { cause: found.error },
  );
}
