import { existsSync, mkdirSync, rmdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Portal } from '../src/core/ports/portal.js';
import { type IpAddress, parseIp } from '../src/model/address.js';
import { VpndError } from '../src/model/errors.js';
import { type DnsFiles, nodeDnsFiles } from './dns-files.js';
import { parseOwnFile, serversOf } from './dns-text.js';
import { type DnsTools, openDnsTools } from './dns-tools.js';
import { type ExcludedGroup, excludedGroup } from './excluded-programs.js';
import { runNft } from './nft.js';
import { renderPortal } from './portal-text.js';
import { createRunner, type Runner } from './run.js';

const TABLE = 'vpnd_client_portal';
const GROUP = 'vpnd-portal';
/** Whoever names more means ill. */
const MOST_RESOLVERS = 8;

/** The control group beside that of programs outside the tunnels; undefined where there is no cgroup v2. */
export function portalGroup(beside: ExcludedGroup | undefined = excludedGroup()): ExcludedGroup | undefined {
  return beside && { directory: join(dirname(beside.directory), GROUP), path: join(dirname(beside.path), GROUP) };
}

export interface PortalDeps {
  readonly runner: Runner;
  readonly files: DnsFiles;
  readonly tools: DnsTools;
  readonly etc: string;
}

/** nftables for the programs of one control group; needs CAP_NET_ADMIN. */
export function openPortal(deps: Partial<PortalDeps> = {}): Portal {
  const { runner = createRunner(), files = nodeDnsFiles, tools = openDnsTools(), etc = '/etc' } = deps;
  const drop = `table inet ${TABLE} {}\ndelete table inet ${TABLE}\n`;
  return {
    async resolvers() {
      const asked = [...fromFile(files, etc), ...(await fromResolved(tools)), ...(await gateways(runner))];
      const addresses = asked.flatMap((text): readonly IpAddress[] => {
        const parsed = parseIp(text);
        return parsed.ok && !/^(127\.|::1$)/.test(parsed.value) ? [parsed.value] : [];
      });
      return [...new Set(addresses)].slice(0, MOST_RESOLVERS);
    },
    async open(pass) {
      const group = portalGroup();
      if (group === undefined) {
        throw new VpndError(
          'not-supported',
          'this machine has no cgroup v2 below /sys/fs/cgroup, by which programs are told apart',
        );
      }
      if (!existsSync(group.directory)) {
        throw new VpndError('not-found', `there is no control group ${group.directory}: vpnd portal makes it`);
      }
      await runNft(runner, `${drop}${renderPortal(TABLE, group.path, pass)}`);
    },
    close: () => runNft(runner, drop),
  };
}

/** Resolvers that this network has named, where vpnd's are in their place. */
function fromFile(files: DnsFiles, etc: string): readonly string[] {
  const text = files.read(`${etc}/resolv.conf`) ?? '';
  const before = parseOwnFile(text)?.before;
  if (before === undefined) return serversOf(text);
  if (before.kind === 'file') return serversOf(before.text);
  return before.kind === 'link' ? serversOf(files.read(resolve(etc, before.target)) ?? '') : [];
}

/** By link, tunnels left out; none where systemd-resolved does not run. */
async function fromResolved(tools: DnsTools): Promise<readonly string[]> {
  if (!tools.has('resolvectl')) return [];
  const said = await tools.run('resolvectl', ['dns']).catch(() => '');
  return said.split('\n').flatMap((line) => {
    const [, device = '', servers = ''] = /^Link \d+ \(([^)]*)\):(.*)$/.exec(line) ?? [];
    return device.startsWith('wg-') ? [] : servers.trim().split(/\s+/);
  });
}

/** Of default routes that are no tunnel's. */
async function gateways(runner: Runner): Promise<readonly string[]> {
  const lists = await Promise.all(
    (['-4', '-6'] as const).map((family) =>
      runner.run('ip', [family, 'route', 'show', 'default', 'table', 'main']).catch(() => ''),
    ),
  );
  return lists.flatMap((text) => [...text.matchAll(/^default via (\S+)/gm)].flatMap(([, ip]) => ip ?? []));
}

/** For root: makes the group, and puts processes into it. Throws VpndError `not-supported`, `no-root`. */
export function makePortalGroup(): ExcludedGroup {
  const group = portalGroup();
  if (group === undefined) {
    throw new VpndError(
      'not-supported',
      'this machine has no cgroup v2 below /sys/fs/cgroup, by which programs are told apart',
    );
  }
  try {
    mkdirSync(group.directory, { recursive: true, mode: 0o755 });
  } catch (cause) {
    throw new VpndError('no-root', `${group.directory} cannot be made; vpnd portal is for root: sudo vpnd portal`, {
      cause,
    });
  }
  return group;
}

/** The last one to go takes the group along. */
export function removePortalGroup({ directory }: ExcludedGroup): void {
  try {
    rmdirSync(directory);
  } catch {
    // Programs are in it still.
  }
}
