import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * What a lab leaves in the system, and how it is removed: its namespaces with everything that runs in them, its
 * directory, its record. Synchronous throughout, so that it also works while a process is exiting.
 */
export const LAB_ROOT = '/run/vpnd-lab';
const NAMESPACES = '/run/netns';

/** Written before the first namespace exists and removed after the last is gone. */
interface Owner {
  readonly pid: number;
  /** Ticks since boot at which that process started: process ids are used again. */
  readonly started: string;
}

export function recordLab(name: string): string {
  const directory = join(LAB_ROOT, name);
  mkdirSync(directory, { recursive: true });
  const owner: Owner = { pid: process.pid, started: startOf(process.pid) ?? '' };
  writeFileSync(join(LAB_ROOT, `${name}.json`), `${JSON.stringify(owner)}\n`);
  return directory;
}

/** End every process inside the lab's namespaces, delete them, then the lab's files. Harmless when all is gone. */
export function removeLab(name: string): void {
  const namespaces = namespacesOf(name);
  endProcessesIn(namespaces);
  if (namespaces.length > 0) {
    const batch = namespaces.map((namespace) => `netns del ${namespace}\n`).join('');
    try {
      execFileSync('ip', ['-force', '-batch', '-'], { input: batch, stdio: ['pipe', 'ignore', 'ignore'] });
    } catch {
      // Another cleaner was faster, or the names outlived a reboot: what counts is that they are gone, checked below.
    }
    for (const namespace of namespacesOf(name)) rmSync(join(NAMESPACES, namespace), { force: true });
  }
  rmSync(join(LAB_ROOT, name), { recursive: true, force: true });
  rmSync(join(LAB_ROOT, `${name}.json`), { force: true });
}

/** Remove the labs whose owner was killed before it could. Answers with their names. */
export function removeAbandonedLabs(): string[] {
  const abandoned = list(LAB_ROOT)
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length))
    .filter((name) => !ownerLives(name));
  for (const name of abandoned) removeLab(name);
  return abandoned;
}

/** The lab's network namespaces, by their full names. */
export function namespacesOf(name: string): string[] {
  return list(NAMESPACES).filter((namespace) => namespace.startsWith(`${name}-`));
}

/** Ids of the processes whose network is one of these namespaces, daemons that left their parent included. */
export function processesIn(namespaces: readonly string[]): number[] {
  const wanted = new Set<string>();
  for (const namespace of namespaces) {
    try {
      wanted.add(`net:[${statSync(join(NAMESPACES, namespace)).ino}]`);
    } catch {
      // Deleted since it was listed.
    }
  }
  return list('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => pid !== process.pid && wanted.has(networkOf(pid)));
}

function endProcessesIn(namespaces: readonly string[]): void {
  // A process may fork while we look, so look until none is left; a killed one stays visible for a moment.
  for (let round = 0; round < 200; round++) {
    const pids = processesIn(namespaces);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // Ended by itself.
      }
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
  }
}

function ownerLives(name: string): boolean {
  try {
    const owner = JSON.parse(readFileSync(join(LAB_ROOT, `${name}.json`), 'utf8')) as Owner;
    return startOf(owner.pid) === owner.started;
  } catch {
    return false;
  }
}

/** Field 22 of /proc/<pid>/stat (proc(5)), counted after the command's name, which may hold blanks. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

function networkOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return '';
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
