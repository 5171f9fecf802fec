/**
 * Between `vpnd portal` and the program it runs: a process in the control group, in a mount namespace of its own, where the
 * network's own resolvers are in the place of the tunnel's. See portal-program.ts.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cleanEnvironment, findProgram } from '../../dataplane/run.js';
import { ended, startAs } from './exclude.js';
import type { PortalProgram } from './portal-program.js';

const { name, args, account, group, resolvers } = JSON.parse(process.argv[2] ?? '{}') as PortalProgram;

/** Other text at a path, for this process and what it starts. */
function cover(path: string, text: string): void {
  const mount = findProgram('mount');
  if (mount === undefined) throw new Error('mount is not installed; install it: apt-get install mount');
  const place = mkdtempSync(join(tmpdir(), 'vpnd-portal-'));
  try {
    const file = join(place, 'file');
    writeFileSync(file, text);
    chmodSync(file, 0o644);
    execFileSync(mount, ['--bind', file, path], { env: cleanEnvironment(), stdio: ['ignore', 'ignore', 'pipe'] });
  } finally {
    rmSync(place, { recursive: true });
  }
}

try {
  cover(
    '/etc/resolv.conf',
    resolvers
      .slice(0, 3)
      .map((ip) => `nameserver ${ip}\n`)
      .join(''),
  );
  // systemd-resolved would be asked before the file, and asks in the tunnel.
  const nsswitch = readFileSync('/etc/nsswitch.conf', 'utf8');
  cover('/etc/nsswitch.conf', nsswitch.replace(/^(\s*hosts:).*$/m, '$1 files dns'));
  writeFileSync(`${group.directory}/cgroup.procs`, '0');
  process.exitCode = await ended(startAs(name, args, account, { env: process.env }));
} catch (thrown) {
  process.stderr.write(`vpnd: ${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
  process.exitCode = 1;
}
