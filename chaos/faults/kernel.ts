import type { OverlayNode } from '../overlay/index.js';

/** What somebody who administers a machine may do to what is in its kernel. */

export async function ourTables({ host }: OverlayNode): Promise<readonly string[]> {
  return (await host.exec(['nft', 'list', 'tables'])).split('\n').filter((line) => /vpnd/.test(line));
}

/** Throws when there was none: then the fault is none. */
export async function deleteTables(node: OverlayNode, verb: 'delete' | 'flush' = 'delete'): Promise<void> {
  const found = await ourTables(node);
  if (found.length === 0) throw new Error(`${node.name} has no table of ours`);
  await node.host.nft(found.map((table) => `${verb} ${table}\n`).join(''));
}

/** All rules but the three that every machine has, and what is not ours. */
export async function deleteRules({ host }: OverlayNode): Promise<void> {
  for (const family of ['-4', '-6']) {
    const rules = (await host.exec(['ip', family, 'rule', 'show'])).split('\n');
    for (const rule of rules) {
      const priority = /^(\d+):/.exec(rule)?.[1];
      if (priority === undefined || ['0', '99', '32766', '32767'].includes(priority)) continue;
      await host.run(['ip', family, 'rule', 'del', 'priority', priority]);
    }
  }
}

/** All WireGuard devices whose names begin so. */
export async function deleteDevices({ host }: OverlayNode, prefix: string): Promise<void> {
  const links = (await host.exec(['ip', '-br', 'link', 'show'])).split('\n');
  const found = links.map((line) => line.split(/[\s@]/)[0] ?? '').filter((name) => name.startsWith(prefix));
  if (found.length === 0) throw new Error(`there is no interface ${prefix}`);
  for (const name of found) await host.ip(`link del ${name}`);
}

/** Every peer of every WireGuard device. */
export async function deletePeers({ host }: OverlayNode): Promise<void> {
  const shown = (await host.exec(['wg', 'show', 'all', 'peers'])).split('\n').map((line) => line.trim().split(/\s+/));
  const found = shown.filter(([device, peer]) => device !== undefined && peer !== undefined && peer !== '(none)');
  if (found.length === 0) throw new Error('there is no peer');
  for (const [device = '', peer = ''] of found) await host.exec(['wg', 'set', device, 'peer', peer, 'remove']);
}
