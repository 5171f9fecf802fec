import { readFileSync } from 'node:fs';

/** /proc counts in ticks of 10 ms on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

/** CPU seconds (user and system) of a process, and of its children: those that run and those it has waited for. */
export interface CpuTime {
  readonly own: number;
  readonly children: number;
}

export function cpuTime(pid: number): CpuTime {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // proc(5), fields 14 to 17, counted behind the name, which may hold blanks.
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  const [user = 0, system = 0, childUser = 0, childSystem = 0] = fields.slice(11, 15);
  const waited = (childUser + childSystem) / TICKS_PER_SECOND;
  const running = childrenOf(pid).map((child) => {
    const { own, children } = cpuTime(child);
    return own + children;
  });
  return { own: (user + system) / TICKS_PER_SECOND, children: running.reduce((sum, one) => sum + one, waited) };
}

function childrenOf(pid: number): readonly number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

/** Bytes of memory: resident, and proportional (shared pages divided among those who share them). */
export interface MemoryUse {
  readonly rss: number;
  readonly pss: number;
}

export function memoryUse(pid: number): MemoryUse {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
  const field = (name: string): number => {
    const found = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text);
    if (found?.[1] === undefined) throw new Error(`/proc/${pid}/smaps_rollup has no ${name}`);
    return Number(found[1]) * 1024;
  };
  return { rss: field('Rss'), pss: field('Pss') };
}
