import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setPriority } from 'node:os';

/**
 * WireGuard in user space waits for its turn among daemons and tests, which the kernel's does not: with more programs
 * than processors it drops packets that nobody harmed. So while scenarios run, whatever is called `wireguard-go` in
 * this machine's labs comes first, as the kernel would. Answers with how to end that.
 */
export function wireGuardFirst(): () => void {
  const known = new Set<number>();
  const look = () => {
    for (const pid of numbersIn('/proc')) {
      if (!known.has(pid) && nameOf(pid) === 'wireguard-go' && isInLab(pid)) known.add(pid);
      else if (!known.has(pid)) continue;
      // Priorities are the threads' own; new ones have that of whoever starts them.
      for (const thread of numbersIn(`/proc/${pid}/task`)) prefer(thread);
    }
    for (const pid of known) if (nameOf(pid) !== 'wireguard-go') known.delete(pid);
  };
  const timer = setInterval(look, LOOK_EVERY_MS);
  timer.unref();
  return () => clearInterval(timer);
}

const LOOK_EVERY_MS = 1000;
const FIRST = -19;

function prefer(thread: number): void {
  try {
    setPriority(thread, FIRST);
  } catch {
    // It has ended meanwhile.
  }
}

/** Somebody's own WireGuard on this machine is none of our business. */
function isInLab(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`) !== readlinkSync('/proc/self/ns/net');
  } catch {
    return false;
  }
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}

function numbersIn(directory: string): number[] {
  try {
    return readdirSync(directory)
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return [];
  }
}
