import { chownSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Command } from 'commander';
import { findProgram } from '../../dataplane/run.js';
import { duration, userName } from '../config/values.js';
import { VpndError } from '../model/errors.js';
import { hours, minutes, seconds } from '../model/time.js';
import type { LocalApi } from '../transport/local-api-client.js';
import type { Account } from './account.js';
import { accountOf, ended } from './exclude.js';
import { type DaemonChoice, findDaemon, withDaemonChoice } from './find-daemon.js';
import type { ExitStatus, Io } from './io.js';
import { plain } from './text.js';
import { check } from './up.js';

interface PortalOptions extends DaemonChoice {
  readonly for: string;
  readonly user?: string;
}

/** Where a network leads whoever is not logged in: nobody's address, asked in the open. */
const ANY_PAGE = 'http://192.0.2.1/';

export function portalCommand(program: Command, io: Io, outcome: { status: ExitStatus }): void {
  withDaemonChoice(program.command('portal'))
    .summary('log in to a network while all traffic is held')
    .description(
      "Starts a browser that reaches this network's log-in page, and nothing else does: web pages (TCP 80 and 443) and the network's own resolver, for that browser alone, until a supernode is reached, it ends, or the time is over. It has a profile of its own, which is thrown away. Needs root, for the control group (cgroup v2) that it is put into; it runs as whoever called sudo.",
    )
    .option('--for <duration>', 'for this long at most, an hour at the longest', '5m')
    .option('--user <user>', 'user to run it as (default: whoever called sudo)')
    .argument('[program...]', 'program and its arguments, behind -- (default: a browser that is installed)')
    .addHelpText('after', '\nExamples:\n  sudo vpnd portal\n  sudo vpnd portal --for 2m -- curl -L http://192.0.2.1/')
    .passThroughOptions()
    .action(async (argv: readonly string[], options: PortalOptions) => {
      const time = check('--for', options.for, duration(seconds(1), hours(1))) ?? minutes(5);
      const account = await accountOf(check('--user', options.user, userName), io);
      if (process.geteuid?.() !== 0) {
        throw new VpndError('no-root', 'vpnd portal makes a control group, which is root’s to do: sudo vpnd portal');
      }
      const api = await findDaemon(options, 'client', io);
      const { startInPortal } = await import('./portal-program.js');
      const { makePortalGroup, removePortalGroup } = await import('../../dataplane/portal.js');
      const group = makePortalGroup();
      try {
        const open = await api.setPortal(time);
        const url = plain(open.url) || ANY_PAGE;
        io.err(`vpnd: open for ${options.for} at most, for this program alone; log in at ${url}\n`);
        outcome.status = await withProgram(argv, url, account, async (name, args) => {
          const child = await startInPortal({ name, args, account, group, resolvers: open.resolvers, env: io.env });
          const over = new AbortController();
          const watching = tellWhenClosed(api, io, over.signal);
          try {
            return (await ended(child)) as ExitStatus;
          } finally {
            over.abort();
            await watching;
          }
        });
      } finally {
        await api.setPortal(0).catch(() => {});
        removePortalGroup(group);
      }
    });
}

/** Says so as soon as the way is closed, whoever closed it: what is held again looks like a network that broke. */
async function tellWhenClosed(api: LocalApi, io: Io, signal: AbortSignal): Promise<void> {
  try {
    while (!signal.aborted) {
      await pause(1_000, undefined, { signal });
      if ((await api.status()).facts.portal !== undefined) continue;
      const last = (await api.events(20)).filter(({ code }) => code === 'portal').at(-1);
      io.err(`vpnd: ${plain(last?.text ?? 'closed again')}; this program may be ended\n`);
      return;
    }
  } catch {
    // The program ended, or the daemon did: the kernel closes it in time.
  }
}

/** Browsers, and how they are told to be on their own: a window of one that runs already would not be in the group. */
const BROWSERS: readonly (readonly [string, (profile: string, url: string) => readonly string[]])[] = [
  ...['firefox-esr', 'firefox'].map(
    (name) => [name, (profile: string, url: string) => ['--no-remote', '--profile', profile, url]] as const,
  ),
  ...['chromium', 'chromium-browser', 'google-chrome'].map(
    (name) => [name, (profile: string, url: string) => [`--user-data-dir=${profile}`, '--no-first-run', url]] as const,
  ),
];

async function withProgram<T>(
  argv: readonly string[],
  url: string,
  account: Account | undefined,
  run: (name: string, args: readonly string[]) => Promise<T>,
): Promise<T> {
  const [name, ...args] = argv;
  if (name !== undefined) return run(name, args);
  const found = BROWSERS.find(([browser]) => findProgram(browser) !== undefined);
  if (found === undefined) {
    throw new VpndError('no-tool', `no browser is installed that vpnd knows; name one: vpnd portal -- BROWSER ${url}`);
  }
  const profile = mkdtempSync(join(tmpdir(), 'vpnd-portal-'));
  try {
    if (account !== undefined) chownSync(profile, account.uid, account.gid);
    return await run(findProgram(found[0]) ?? found[0], found[1](profile, url));
  } finally {
    rmSync(profile, { recursive: true, force: true });
  }
}
