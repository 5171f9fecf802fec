import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { VpndError } from '../src/model/errors.js';
import { ExcludedPrograms, excludedGroup } from './excluded-programs.js';
import { killSwitchTable } from './kill-switch.js';
import { listStructure } from './nft.js';
import { createRunner, type Runner } from './run.js';

const OWNER = 'vpnd_client';

/** This process is in the group of programs outside the tunnels, with what it starts from now on. */
export interface Entered {
  /** Back to where it was. */
  leave(): void;
  /** The last one to go takes the group along. */
  removeIfEmpty(): void;
}

/**
 * For root. Throws VpndError `not-supported` where there is no cgroup v2, `no-root` where it may not be changed, `dataplane` where
 * the kernel refuses the rules.
 */
export async function enterExcludedGroup(runner: Runner = createRunner()): Promise<Entered> {
  const group = excludedGroup();
  if (group === undefined) {
    throw new VpndError(
      'not-supported',
      'this machine has no cgroup v2 below /sys/fs/cgroup, by which programs are told apart: leave out networks instead (vpnd client --exclude CIDR)',
    );
  }
  const before = ownGroup();
  const procs = `${group.directory}/cgroup.procs`;
  try {
    mkdirSync(group.directory, { recursive: true, mode: 0o755 });
    writeFileSync(procs, '0');
  } catch (cause) {
    const message = `${group.directory} cannot be made or entered; in a container, give it a cgroup of its own to write to`;
    throw new VpndError('no-root', message, { cause });
  }
  const root = group.directory.slice(0, group.directory.lastIndexOf('/'));
  const leave = () => {
    try {
      writeFileSync(`${root}${before}/cgroup.procs`, '0');
    } catch {
      // It ends soon, and with it its place.
    }
  };
  const removeIfEmpty = () => {
    try {
      rmdirSync(group.directory);
    } catch {
      // Others are in it.
    }
  };
  try {
    // With nothing held there is nothing to be led past; the client writes the rules with the tunnel.
    if ((await listStructure(runner, 'inet', killSwitchTable(OWNER))) !== undefined) {
      await new ExcludedPrograms(runner, OWNER).put(group);
    }
  } catch (thrown) {
    leave();
    removeIfEmpty();
    throw thrown;
  }
  return { leave, removeIfEmpty };
}

/** Of the unified hierarchy: `0::/user.slice/…` in /proc/self/cgroup. */
function ownGroup(): string {
  const line = readFileSync('/proc/self/cgroup', 'utf8')
    .split('\n')
    .find((one) => one.startsWith('0::'));
  return line?.slice('0::'.length).replace(/^\/$/, '') ?? '';
}
