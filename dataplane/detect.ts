import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { VpndError } from '../src/model/errors.js';
import { err, ok, type Result } from '../src/model/result.js';
import { createRunner, missingTool, type Runner } from './run.js';

/** What a check found, in a few words for people, or what is missing and how to mend it. */
export type CheckResult = Result<string, VpndError>;

export interface HostCheck {
  readonly name: 'root' | 'ip' | 'nft' | 'tun' | 'wireguard';
  readonly run: () => Promise<CheckResult>;
}

/** CAP_NET_ADMIN, bit 12 of a capability set (linux/capability.h). */
const NET_ADMIN = 1n << 12n;
/** Character device 10, 200 (the kernel's admin-guide/devices.txt), as stat(2) packs it. */
const TUN_DEVICE = (10 << 8) | 200;

/** Whether this process may change interfaces, routes and nftables. */
export async function checkRoot(status: () => string = readStatus): Promise<CheckResult> {
  if (has(status(), 'CapEff')) return ok('may change networks');
  return err(
    new VpndError('no-root', 'vpnd changes interfaces and nftables: run it as root, or give it CAP_NET_ADMIN'),
  );
}

/** Whether the programs that this process starts may, too: root's do, others' by ambient capabilities (capabilities(7)). */
export const programsInherit = (status: () => string = readStatus): boolean =>
  /^Uid:\s+\d+\s+0\s/m.test(status()) || has(status(), 'CapAmb');

function has(status: string, set: 'CapEff' | 'CapAmb'): boolean {
  const found = new RegExp(`^${set}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1];
  return found !== undefined && (BigInt(`0x${found}`) & NET_ADMIN) !== 0n;
}

const readStatus = (): string => readFileSync('/proc/self/status', 'utf8');

export async function checkIp(runner: Runner = createRunner()): Promise<CheckResult> {
  const path = runner.find('ip');
  return path === undefined ? err(missingTool('ip')) : ok(path);
}

/** nft is there and the kernel answers it. */
export async function checkNft(runner: Runner = createRunner()): Promise<CheckResult> {
  const path = runner.find('nft');
  if (path === undefined) return err(missingTool('nft'));
  try {
    await runner.run('nft', ['list', 'tables']);
    return ok(path);
  } catch (cause) {
    return err(
      new VpndError('no-nft', 'this kernel does not answer nft: it needs nf_tables (modprobe nf_tables)', { cause }),
    );
  }
}

/** Userspace WireGuard needs a TUN device. */
export async function checkTun(path = '/dev/net/tun'): Promise<CheckResult> {
  try {
    const fd = openSync(path, 'r+');
    try {
      if (fstatSync(fd).rdev !== TUN_DEVICE)
        return err(new VpndError('no-tun', `${path} is not the TUN device; make it: mknod ${path} c 10 200`));
    } finally {
      closeSync(fd);
    }
    return ok(path);
  } catch (cause) {
    const isClosed = (cause as NodeJS.ErrnoException).code === 'EACCES';
    const message = isClosed
      ? `${path} cannot be opened: permission denied; chmod 666 ${path} (the kernel asks for CAP_NET_ADMIN all the same)`
      : `${path} cannot be opened: load it (modprobe tun), or give the container the device /dev/net/tun`;
    return err(new VpndError('no-tun', message, { cause }));
  }
}

/** Which engine carries packets here: the kernel's where there is one, else wireguard-go over TUN. */
export async function checkWireGuard(runner: Runner = createRunner()): Promise<CheckResult> {
  try {
    const engine = await detectEngine(runner);
    return ok(engine === 'kernel' ? 'WireGuard of the kernel' : 'wireguard-go');
  } catch (thrown) {
    return err(thrown instanceof VpndError ? thrown : new VpndError('no-wireguard', String(thrown), { cause: thrown }));
  }
}

/** Everything that the data plane needs of a host, in the order in which a person would mend it. */
export function hostChecks(runner: Runner = createRunner()): readonly HostCheck[] {
  return [
    { name: 'root', run: () => checkRoot() },
    { name: 'ip', run: () => checkIp(runner) },
    { name: 'nft', run: () => checkNft(runner) },
    { name: 'tun', run: () => checkTun() },
    { name: 'wireguard', run: () => checkWireGuard(runner) },
  ];
}

/** Throws the VpndError of the first thing missing: no-root, no-tool, no-nft. */
export async function requireHost(runner: Runner): Promise<void> {
  for (const check of [checkRoot(), checkIp(runner), checkNft(runner)]) {
    const result = await check;
    if (!result.ok) throw result.error;
  }
}

/** Rejects with `no-wireguard`, `no-tun` or `no-tool` where the choice cannot be had. */
export async function detectEngine(
  runner: Runner,
  choice: 'auto' | 'kernel' | 'userspace' = 'auto',
): Promise<'kernel' | 'userspace'> {
  const kernel = choice === 'userspace' ? false : await kernelHasWireGuard(runner);
  if (kernel) {
    if (runner.find('wg') !== undefined) return 'kernel';
    if (choice === 'kernel') throw missingTool('wg');
  }
  if (choice === 'kernel') {
    throw new VpndError(
      'no-wireguard',
      'this kernel has no WireGuard: modprobe wireguard, or use --dataplane userspace',
    );
  }
  if (runner.find('wireguard-go') === undefined) {
    if (choice === 'userspace') throw missingTool('wireguard-go');
    throw kernel
      ? missingTool('wg')
      : new VpndError(
          'no-wireguard',
          'this kernel has no WireGuard and wireguard-go is not installed; install it: apt-get install wireguard-go',
        );
  }
  const tun = await checkTun();
  if (!tun.ok) throw tun.error;
  return 'userspace';
}

/** By making a device and removing it again: a module may be loadable, or listed and forbidden. */
async function kernelHasWireGuard(runner: Runner): Promise<boolean> {
  const name = `vpndprobe${process.pid % 100_000}`;
  try {
    await runner.run('ip', ['link', 'add', name, 'type', 'wireguard']);
  } catch (thrown) {
    // The tool itself missing is another complaint than a kernel without WireGuard.
    if (thrown instanceof VpndError && thrown.code === 'no-tool') throw thrown;
    return false;
  }
  await runner.run('ip', ['link', 'del', name]);
  return true;
}
