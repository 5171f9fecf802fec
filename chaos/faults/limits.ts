import { labUser, type OverlayNode } from '../overlay/index.js';

/**
 * What a daemon may use from now on, as prlimit(1) says it: `--nofile=96:` for the soft limit of files. Set as the
 * daemon's own user may, since root in a container may not.
 */
export async function limit(node: OverlayNode, ...limits: readonly string[]): Promise<void> {
  const user = labUser();
  const as = user === 'root' ? [] : ['setpriv', '--reuid', user, '--regid', user, '--clear-groups', '--'];
  await node.host.exec([...as, 'prlimit', '--pid', String(node.pid), ...limits]);
}
