import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Host } from '../../chaos/lab/index.js';
import { TOOLS } from '../../dataplane/run.js';

/** What a process may do and what it was given, as the kernel tells it. */
export interface ProcessFacts {
  readonly uid: string;
  readonly gid: string;
  readonly groups: string;
  /** CapInh, CapPrm, CapEff, CapBnd and CapAmb, in hexadecimal without leading zeros. */
  readonly capabilities: readonly string[];
  readonly noNewPrivileges: string;
  readonly env: readonly string[];
  readonly cwd: string;
}

/** Bits 12 and 10 of a capability set (linux/capability.h). */
export const NOTHING = '0';
export const NET_ADMIN = (1 << 12).toString(16);
export const NET_ADMIN_AND_BIND = ((1 << 12) | (1 << 10)).toString(16);

/** What every process of a daemon with these capabilities must look like. */
export const confined = (uid: number, capabilities: string): Omit<ProcessFacts, 'env' | 'cwd'> => ({
  uid: Array(4).fill(uid).join(' '),
  gid: Array(4).fill(uid).join(' '),
  groups: '',
  capabilities: Array(5).fill(capabilities),
  noNewPrivileges: '1',
});

export const factsOf = (pid: number): ProcessFacts => ({
  ...statusFacts(readFileSync(`/proc/${pid}/status`, 'utf8')),
  env: readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').filter(Boolean),
  cwd: readlinkSync(`/proc/${pid}/cwd`),
});

function statusFacts(status: string): Omit<ProcessFacts, 'env' | 'cwd'> {
  const of = (name: string) =>
    new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1]?.trim().replaceAll('\t', ' ') ?? 'missing';
  return {
    uid: of('Uid'),
    gid: of('Gid'),
    groups: of('Groups'),
    capabilities: ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb'].map((set) => of(`Cap${set}`).replace(/^0+(?=.)/, '')),
    noNewPrivileges: of('NoNewPrivs'),
  };
}

export interface RunningProcess {
  readonly pid: number;
  readonly command: string;
  readonly facts: ProcessFacts;
}

/** Everything that runs on a host; programs that end while they are looked at are left out. */
export const processesOf = (host: Host): readonly RunningProcess[] =>
  host.pids().flatMap((pid) => {
    try {
      const facts = factsOf(pid);
      const command = commandOf(pid);
      return command === '' ? [] : [{ pid, command, facts }];
    } catch (cause) {
      if (['ENOENT', 'ESRCH'].includes((cause as NodeJS.ErrnoException).code ?? '')) return [];
      throw cause;
    }
  });

/** The command line of a process, blanks between the arguments; '' for one that has just ended. */
export function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    return '';
  }
}

/** One start of a program on a machine with witnesses. */
export interface Witnessed {
  readonly tool: string;
  readonly args: string;
  readonly facts: ProcessFacts;
}

/**
 * Puts a script in the place of the programs that daemons start on this host, which writes down what it is before it becomes the
 * program itself. `wireguard-go` is left out: it stays, and can be looked at.
 */
export async function witness(host: Host): Promise<() => readonly Witnessed[]> {
  const place = join(host.directory, 'witness');
  await host.exec(['install', '-d', '-m', '1777', place]);
  for (const tool of Object.keys(TOOLS).filter((name) => name !== 'wireguard-go')) {
    const real = (await host.exec(['sh', '-c', `readlink -f "$(command -v ${tool})"`])).trim();
    const [copy, script] = [join(place, `real-${tool}`), join(place, `${tool}.sh`)];
    await host.exec(['cp', real, copy]);
    // With nothing but the shell's own words: it must not start anything by PATH.
    const text = `#!/bin/sh
      { printf '%s\\n' "${tool}" "$*"; while IFS= read -r line; do printf '%s\\n' "$line"; done </proc/$$/status
      printf 'CWD %s\\n' "$(/bin/readlink /proc/$$/cwd)"; printf 'ENV %s\\n' "$(/usr/bin/tr '\\0' '\\001' </proc/$$/environ)"
      } >'${place}'/seen-$$-${tool}
      exec ${copy} "$@"\n`;
    await host.exec(['tee', script], { stdin: text });
    await host.exec(['chmod', '755', script, copy]);
    await host.exec(['mount', '--bind', script, real]);
  }
  return () =>
    readdirSync(place)
      .filter((name) => name.startsWith('seen-'))
      .map((name) => readFileSync(join(place, name), 'utf8'))
      .map((text) => {
        const [tool = '', args = ''] = text.split('\n');
        const env = (/^ENV (.*)$/m.exec(text)?.[1] ?? 'missing').split('\u0001').filter(Boolean);
        return { tool, args, facts: { ...statusFacts(text), env, cwd: /^CWD (.*)$/m.exec(text)?.[1] ?? '' } };
      });
}

/** The one process of a client that root keeps, without a capability: it sets the resolver. */
export const setsNames = (command: string): boolean => /dns-helper-main/.test(command);
