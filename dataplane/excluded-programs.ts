import { readFileSync, statSync } from 'node:fs';
import type { Log } from '../src/core/ports/log.js';
import { toVpndError } from '../src/model/errors.js';
import { renderExcludedPrograms } from './kill-switch-text.js';
import { canonicalStructure, listElements, listStructure, runNft } from './nft.js';
import type { Repairs } from './relay.js';
import type { Runner } from './run.js';
import { filterByMark } from './sysctl.js';

/** nft looks for control groups below here and nowhere else. */
const CGROUPS = '/sys/fs/cgroup';
/** In the root of the hierarchy: whatever manages the groups of this machine leaves that one alone. */
const GROUP = 'vpnd-exclude';

/** Where programs outside the tunnels are, and how nft names it. */
export interface ExcludedGroup {
  readonly directory: string;
  /** Below /sys/fs/cgroup. */
  readonly path: string;
}

/** Undefined where this machine has no cgroup v2 hierarchy that nft can name. */
export function excludedGroup(mounts = readMounts()): ExcludedGroup | undefined {
  for (const line of mounts.split('\n')) {
    const [, at = '', type] = line.split(' ');
    if (type !== 'cgroup2' || (at !== CGROUPS && !at.startsWith(`${CGROUPS}/`))) continue;
    const directory = `${at}/${GROUP}`;
    return { directory, path: directory.slice(CGROUPS.length + 1) };
  }
  return undefined;
}

/** How many programs are in it; undefined where there can be none. */
export function countExcluded(group = excludedGroup()): number | undefined {
  if (group === undefined) return undefined;
  try {
    return readFileSync(`${group.directory}/cgroup.procs`, 'utf8').split('\n').filter(Boolean).length;
  } catch {
    return 0;
  }
}

export const excludedProgramsTable = (owner: string): string => `${owner}_programs`;

/**
 * The table that leads programs in the group past the tunnels. It is there while the group is, which `vpnd exclude` makes:
 * who never uses it has neither connection tracking nor address translation for it.
 */
export class ExcludedPrograms {
  readonly #name: string;
  /** The group that the kernel's table is about, by its number: one that is made again is another. */
  #believed: number | 'absent' | 'unknown' = 'unknown';

  constructor(
    private readonly runner: Runner,
    owner: string,
    private readonly log?: Log,
  ) {
    this.#name = excludedProgramsTable(owner);
  }

  async prime(): Promise<void> {
    if ((await listStructure(this.runner, 'inet', this.#name)) === undefined) this.#believed = 'absent';
  }

  /** Never rejects: without it those programs are held like all others. */
  async apply(wanted: boolean): Promise<void> {
    const group = wanted ? excludedGroup() : undefined;
    const number = group === undefined ? undefined : numberOf(group);
    if (this.#believed === (number ?? 'absent')) return;
    try {
      await this.put(number === undefined ? undefined : group);
      this.#believed = number ?? 'absent';
    } catch (thrown) {
      this.#believed = 'unknown';
      this.log?.warn('programs cannot be led past the tunnels here', { err: toVpndError(thrown) });
    }
  }

  /** Writes the table, whatever is there. Rejects with VpndError `dataplane`. */
  async put(group: ExcludedGroup | undefined): Promise<void> {
    if (group !== undefined) filterByMark();
    const drop = `table inet ${this.#name} {}\ndelete table inet ${this.#name}\n`;
    await runNft(this.runner, `${drop}${group === undefined ? '' : renderExcludedPrograms(this.#name, group)}`);
  }

  async reconcile(wanted: boolean, repairs: Repairs): Promise<void> {
    const present = await listStructure(this.runner, 'inet', this.#name);
    const group = wanted ? excludedGroup() : undefined;
    const number = group === undefined ? undefined : numberOf(group);
    if (present !== undefined && number === undefined) repairs.removed.push(`table inet ${this.#name}`);
    this.#believed = present === undefined ? 'absent' : 'unknown';
    if (present !== undefined && group !== undefined && number !== undefined && (await this.#isRight(present, group))) {
      this.#believed = number;
    }
    await this.apply(wanted);
  }

  async #isRight(present: string, group: ExcludedGroup): Promise<boolean> {
    // nft shows the path that a number belongs to now: that of a group which was made again is a bare number.
    const groups = (await listElements(this.runner, 'inet', this.#name))?.get('programs');
    if (groups?.size !== 1 || !groups.has(group.path)) return false;
    return (
      present ===
      (await canonicalStructure(this.runner, 'inet', (name, flags) => renderExcludedPrograms(name, group, flags)))
    );
  }

  async inventory(): Promise<readonly string[]> {
    const present = await listStructure(this.runner, 'inet', this.#name);
    return present === undefined ? [] : [`table inet ${this.#name}: programs outside the tunnels`];
  }
}

function numberOf({ directory }: ExcludedGroup): number | undefined {
  try {
    return statSync(directory).ino;
  } catch {
    return undefined;
  }
}

function readMounts(): string {
  try {
    return readFileSync('/proc/self/mounts', 'utf8');
  } catch {
    return '';
  }
}
