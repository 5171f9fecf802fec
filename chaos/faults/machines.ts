import { setTimeout as pause } from 'node:timers/promises';
import type { Host } from '../lab/index.js';
import type { OverlayNode } from '../overlay/index.js';

/** A machine sleeps: all its processes stand still, and so do the programs of whoever uses it. */
export async function asleep({ host }: OverlayNode, seconds: number): Promise<void> {
  const ids = host.pids();
  signal(ids, 'SIGSTOP');
  try {
    await pause(seconds * 1000);
  } finally {
    signal(ids, 'SIGCONT');
  }
}

/** Kills the processes of a machine whose command begins so: user-space WireGuard, say. Answers with how many. */
export async function killProgram({ host }: OverlayNode, name: string): Promise<number> {
  const listed = await host.exec(['ps', '-eo', 'pid=,comm=']);
  const here = new Set(host.pids());
  const ids = listed
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([pid, comm]) => comm === name && here.has(Number(pid)))
    .map(([pid]) => Number(pid));
  signal(ids, 'SIGKILL');
  return ids.length;
}

/** So many programs on a machine that compute and do nothing else; answers with how to end them. */
export function hogs(host: Host, count: number): () => Promise<void> {
  const running = Array.from({ length: count }, () => host.spawn(['/bin/sh', '-c', 'while :; do :; done']));
  return async () => {
    for (const one of running) one.kill('SIGKILL');
    await Promise.all(running.map(({ exited }) => exited));
  };
}

function signal(ids: readonly number[], name: NodeJS.Signals): void {
  for (const id of ids) {
    try {
      process.kill(id, name);
    } catch {
      // It has ended meanwhile.
    }
  }
}
