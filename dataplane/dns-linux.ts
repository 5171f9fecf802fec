import { existsSync, realpathSync } from 'node:fs';
import type { Dns } from '../src/core/ports/dns.js';
import type { InterfaceName } from '../src/model/dataplane.js';
import { ResolvConf } from './dns-file.js';
import { type DnsFiles, nodeDnsFiles } from './dns-files.js';
import { Openresolv } from './dns-openresolv.js';
import { Resolved } from './dns-resolved.js';
import { asksResolved, isOfOpenresolv, isStub } from './dns-text.js';
import { type DnsTools, openDnsTools } from './dns-tools.js';
import { findProgram } from './run.js';

export interface LinuxDnsOptions {
  readonly files?: DnsFiles;
  readonly tools?: DnsTools;
  /** Directory of resolv.conf and nsswitch.conf. */
  readonly etc?: string;
  /** There while systemd-resolved runs. */
  readonly resolvedAt?: string;
}

/** Which of a machine's ways are to be taken: always one that programs read, and at times systemd-resolved besides. */
interface Ways {
  readonly main: 'resolved' | 'openresolv' | 'file';
  readonly alsoResolved: boolean;
}

/**
 * This machine's resolver, set by a process that may do so: root. What decides is who is asked by programs, by what is at
 * /etc/resolv.conf: systemd-resolved, openresolv, or nobody but that file.
 */
export function openLinuxDns(options: LinuxDnsOptions = {}): Dns {
  const { files = nodeDnsFiles, tools = openDnsTools(), etc = '/etc', resolvedAt = '/run/systemd/resolve' } = options;
  const path = `${etc}/resolv.conf`;
  const file = new ResolvConf(files, path);
  const resolved = new Resolved(tools);
  const openresolv = new Openresolv(tools, () => files.read(path));
  let knowsOthers = false;
  let turn: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(task: () => Promise<T>): Promise<T> => {
    const result = turn.then(task, task);
    turn = result.catch(() => {});
    return result;
  };

  const find = (): Ways => {
    const runs = existsSync(resolvedAt) && tools.has('resolvectl');
    const nss = runs && asksResolved(files.read(`${etc}/nsswitch.conf`) ?? '');
    // Once replaced it stays replaced: who reads it reads what is there.
    if (file.look().own !== undefined) return { main: 'file', alsoResolved: nss };
    const text = files.read(path) ?? '';
    if (runs && isStub(text)) return { main: 'resolved', alsoResolved: false };
    const hasOpenresolv = isOfOpenresolv(text) && tools.has('resolvconf') && !isResolvectl();
    return { main: hasOpenresolv ? 'openresolv' : 'file', alsoResolved: nss };
  };
  const name = ({ main, alsoResolved }: Ways): string => {
    const first = { resolved: 'systemd-resolved', openresolv: 'resolvconf', file: path }[main];
    return alsoResolved ? `${first} and systemd-resolved` : first;
  };
  const revert = async (devices: readonly InterfaceName[]): Promise<readonly string[]> => {
    if (!existsSync(resolvedAt) || !tools.has('resolvectl')) return [];
    const reverted: string[] = [];
    for (const device of devices) {
      if (await resolved.revert(device)) reverted.push(`resolvers of ${device} with systemd-resolved`);
    }
    return reverted;
  };

  return {
    put: ({ device, servers, others }) =>
      inTurn(async () => {
        const ways = find();
        const changes: boolean[] = [];
        if (ways.main === 'file') changes.push(file.put(servers));
        if (ways.main === 'openresolv') changes.push(await openresolv.put(servers));
        if (ways.main === 'resolved' || ways.alsoResolved) {
          const changed = await resolved.put(device, servers);
          changes.push(changed);
          // A tunnel that was left must not be asked as well. Once at the start: a crash may have come in between.
          if (changed || !knowsOthers) await revert(others);
          knowsOthers = true;
        }
        return { way: name(ways), changed: changes.includes(true), cheap: ways.main === 'file' && !ways.alsoResolved };
      }),
    restore: (devices) =>
      inTurn(async () => [
        ...(file.restore() ? [`resolvers of vpnd's in ${path}`] : []),
        ...((await openresolv.remove()) ? ["resolvers of vpnd's with resolvconf"] : []),
        ...(await revert(devices)),
      ]),
    way: async () => name(find()),
    close: () => inTurn(async () => {}),
  };
}

/** systemd brings a resolvconf of its own, which is resolvectl by another name. */
function isResolvectl(): boolean {
  const path = findProgram('resolvconf');
  return path !== undefined && realpathSync(path).endsWith('/resolvectl');
}

/** Whether an earlier run's settings are still at /etc/resolv.conf; anybody may look. */
export function isDnsLeft(etc = '/etc'): boolean {
  try {
    return new ResolvConf(nodeDnsFiles, `${etc}/resolv.conf`).look().own !== undefined;
  } catch {
    return false;
  }
}
