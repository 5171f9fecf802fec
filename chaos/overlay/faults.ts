import { readFileSync } from 'node:fs';
import type { OverlayNode } from './node.js';

/** What happens to whole machines. What happens to cables is with Host, to home networks with Home. */

/**
 * The machine dies: daemon and user-space WireGuard by SIGKILL; where WireGuard is the kernel's, its interfaces go as
 * well, since a kernel that is dead forwards nothing.
 */
export async function killMachine(node: OverlayNode): Promise<void> {
  signalAll(node, 'SIGKILL');
  await node.process.exited;
  while (node.host.pids().length > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const left = await node.host.exec(['ip', '-br', 'link', 'show', 'type', 'wireguard']).catch(() => '');
  for (const line of left.split('\n').filter((each) => each !== '')) {
    await node.host.ip(`link del ${line.split(/[\s@]/)[0]}`).catch(() => undefined);
  }
}

/**
 * The machine stands still, and closes nothing: every process of it is stopped. A kernel cannot be: where it carries
 * the tunnels, nothing passes its cable any more instead.
 */
export async function freezeMachine(node: OverlayNode): Promise<void> {
  if (!carriesTunnelsInUserSpace(node)) await node.host.silence();
  signalAll(node, 'SIGSTOP');
}

export async function thawMachine(node: OverlayNode): Promise<void> {
  signalAll(node, 'SIGCONT');
  await node.host.unsilence();
}

/** The daemon alone stands still; user-space WireGuard goes on. */
export function freezeDaemon(node: OverlayNode): void {
  process.kill(node.pid, 'SIGSTOP');
}

export function thawDaemon(node: OverlayNode): void {
  process.kill(node.pid, 'SIGCONT');
}

function carriesTunnelsInUserSpace(node: OverlayNode): boolean {
  return node.host.pids().some((pid) => nameOf(pid) === 'wireguard-go');
}

function signalAll(node: OverlayNode, signal: NodeJS.Signals): void {
  for (const pid of node.host.pids()) {
    try {
      process.kill(pid, signal);
    } catch {
      // Ended by itself.
    }
  }
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
}
