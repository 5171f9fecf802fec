import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/** What `scripts/setup bench` installs to be measured, and what measures. */
export const PEERS = ['coturn', 'nebula', 'n2n', 'tinc', 'openvpn', 'nats-server', 'mosquitto'] as const;
const TOOLS = ['wireguard-go', 'iperf3', 'gcc', 'nftables'] as const;

/** Versions of Debian's packages, `absent` where one is not installed. */
export function debianVersions(): Readonly<Record<string, string>> {
  return Object.fromEntries([...PEERS, ...TOOLS].map((name) => [name, versionOf(name)]));
}

function versionOf(name: string): string {
  try {
    const argv = ['-W', '-f', `\${Version}`, name];
    return execFileSync('dpkg-query', argv, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return 'absent';
  }
}

/** Beneath the directory that the benchmark runs in, which is the checkout when `make` runs it. */
const SOURCE = resolve('bench/beside/packets.c');

/** Compiles the packet generator. `remove` takes it away again. */
export function buildGenerator(): { readonly program: string; remove(): void } {
  const directory = mkdtempSync(join(tmpdir(), 'vpnd-bench-'));
  const program = join(directory, 'packets');
  execFileSync('gcc', ['-O2', '-Wall', '-o', program, SOURCE, '-lpthread'], { stdio: ['ignore', 'ignore', 'inherit'] });
  return { program, remove: () => rmSync(directory, { recursive: true, force: true }) };
}
