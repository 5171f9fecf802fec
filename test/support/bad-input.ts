import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Host, RunResult } from '../../chaos/lab/index.js';
import { vpnd } from '../../chaos/overlay/index.js';
import { eventually } from './overlay-checks.js';

/** One thing done wrong, and what vpnd is to answer. */
export interface BadInput {
  /** The row of docs/errors.md, unique. */
  readonly input: string;
  readonly host: Host;
  readonly argv: readonly string[];
  readonly status: 1 | 2;
  /** What the line must say: what is wrong, and what to do. */
  readonly says: readonly RegExp[];
  readonly env?: Readonly<Record<string, string>>;
  /** Runs the binary in another way: as another user, in other mounts. Ends with what comes before the program. */
  readonly wrap?: readonly string[];
  /** Directories that must be afterwards what they were before, byte by byte; those that were not there, still are not. */
  readonly untouched?: readonly string[];
}

interface Row {
  readonly input: string;
  readonly status: number;
  readonly line: string;
}

const DOCUMENT = 'docs/errors.md';

export { clockOff } from '../../chaos/faults/clock.js';
export { emptyDisk, fillDisk, smallDisk } from '../../chaos/faults/disks.js';

/** As a user that may do nothing and owns nothing. */
export const AS_NOBODY = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--'] as const;

/** In mounts of its own, after a preparation in shell; the arguments `$1`… are the preparation's. */
export const withMounts = (preparation: string, ...args: readonly string[]): string[] => [
  ...['unshare', '--mount', '--propagation', 'private', '/bin/sh', '-ec'],
  `${preparation}\nshift ${args.length}\nexec "$@"`,
  'sh',
  ...args,
];

/** A program is there and cannot be started. */
export const withoutProgram = (host: Host, path: string): string[] =>
  withMounts('mount --bind "$1" "$2"', join(host.directory, 'resolv.conf'), path);

/**
 * Nothing where the kernel has no WireGuard, as it should be; else in mounts where `ip` says what it says on such a
 * kernel, since that is how vpnd finds out.
 */
export async function withoutKernelWireGuard(host: Host): Promise<string[]> {
  const made = await host.run(['ip', 'link', 'add', 'wgprobe', 'type', 'wireguard']);
  if (made.code !== 0) return [];
  await host.exec(['ip', 'link', 'del', 'wgprobe']);
  const preparation = `
    ip=$(readlink -f "$(command -v ip)"); cp "$ip" "$1/real-ip"
    printf '#!/bin/sh\\ncase "$*" in *"type wireguard"*) echo "Error: Unknown device type." >&2; exit 2;; esac\\nexec %s "$@"\\n' \\
      "$1/real-ip" >"$1/no-wireguard"
    chmod 755 "$1/no-wireguard"; mount --bind "$1/no-wireguard" "$ip"`;
  return withMounts(preparation, host.directory);
}

/** Does wrong things to the real binary, checks what every answer must be, and keeps the answers for the table. */
export class BadInputs {
  readonly #rows: Row[] = [];

  /** Status, one line, no trace, no change. */
  async refused(t: Test, bad: BadInput): Promise<RunResult> {
    const { host, untouched = [] } = bad;
    const before = await settledOn(host, untouched);
    const argv = [...(bad.wrap ?? []), ...vpnd(...bad.argv)];
    const ran = await host.run(argv, { timeout: 60_000, ...(bad.env === undefined ? {} : { env: bad.env }) });
    this.checkAnswer(t, bad, ran);
    const after = await eventually(
      () => everythingOn(host, untouched),
      (now) => now === before,
      5_000,
    ).catch(() => everythingOn(host, untouched));
    t.equal(after, before, `${bad.input}: nothing has changed`);
    return ran;
  }

  checkAnswer(t: Test, bad: Pick<BadInput, 'input' | 'status' | 'says'>, ran: RunResult): void {
    const { input } = bad;
    t.equal(ran.code, bad.status, `${input}: status ${bad.status}`);
    t.match(ran.stderr, /^vpnd: [^\n]+\n$/, `${input}: one line, and nothing else`);
    t.notMatch(ran.stdout + ran.stderr, /\n\s+at |Error:|internal error|undefined|\[object/, `${input}: no trace`);
    t.equal(ran.stdout, '', `${input}: nothing on standard output`);
    for (const pattern of bad.says) t.match(ran.stderr, pattern, `${input}: the line says ${pattern}`);
    this.#rows.push({ input, status: ran.code, line: readable(ran.stderr.trim()) });
  }

  /** The table of the answers is the one in docs/errors.md under this heading. */
  compareWithDocument(t: Test, heading: string): void {
    const table = [
      '| input | status | what vpnd says |',
      '| --- | --- | --- |',
      ...this.#rows.map(({ input, status, line }) => `| ${input} | ${status} | ${verbatim(line)} |`),
    ].join('\n');
    t.comment(`\n## ${heading}\n\n${table}\n`);
    const document = readFileSync(DOCUMENT, 'utf8');
    const section = document.split(/^## /m).find((one) => one.startsWith(`${heading}\n`)) ?? '';
    const documented = section.split('\n').filter((line) => line.startsWith('|'));
    t.equal(documented.join('\n'), table, `docs/errors.md has this table under "${heading}"`);
  }
}

const verbatim = (line: string): string => (line.includes('`') ? `\`\` ${line} \`\`` : `\`${line}\``);

/** What differs from run to run, as the documentation writes it. */
function readable(line: string): string {
  return line
    .replace(/\/run\/vpnd-lab\/[^/ ]+\/[^/ ]+\/(?:\d+\/)?/g, '/var/lib/vpnd/')
    .replace(/\bpid \d+/g, 'pid 1234')
    .replace(/\b(exit|supernode) [a-z2-7]{10}\b/g, '$1 ur4ckor52k')
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, '2025-03-01T12:00:00Z')
    .replace(/Tree \d+ page \d+/, 'Tree 9 page 9')
    .replaceAll('|', '\\|');
}

/** Of this machine: links, addresses, rules, routes, nftables, settings, WireGuard sockets. */
const KERNEL = `
ip -o addr show; ip -4 rule show; ip -6 rule show; ip -4 route show table all; ip -6 route show table all
nft -s list ruleset
sysctl net.ipv4.ip_local_reserved_ports net.ipv4.ip_forward net.ipv6.conf.all.forwarding
ls -A /run/wireguard`;
/** Whoever holds the lock may leave its file: which process it was tells nobody anything. */
const FILES = `
for path in "$@"; do
  [ -e "$path" ] || { echo "$path is not there"; continue; }
  find "$path" ! -name vpnd.pid ! -name lock.db ! -type d -printf '%y %m %U %s %p\\n' | sort
  find "$path" ! -name vpnd.pid ! -name lock.db -type f -exec sha256sum '{}' + | sort
done`;

/** All that a refused command must leave alone, as text. */
async function everythingOn(host: Host, directories: readonly string[]): Promise<string> {
  const found = await host.exec(['/bin/sh', '-ec', KERNEL + FILES, 'sh', ...directories]);
  return `${found}processes: ${host.pids().join(' ')}\n`;
}

/** The same, twice in a row: daemons look at their networks by short-lived programs. */
async function settledOn(host: Host, directories: readonly string[]): Promise<string> {
  let last = await everythingOn(host, directories);
  return eventually(
    () => everythingOn(host, directories),
    (now) => {
      const settled = now === last;
      last = now;
      return settled;
    },
    10_000,
  );
}
