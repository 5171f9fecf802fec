import { setTimeout as pause } from 'node:timers/promises';
import { toJsonString } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { type NodeStatus, NodeStatusSchema } from '../gen/vpnd/v1/admin_pb.js';
import type { LocalApi } from '../transport/local-api-client.js';
import { type DaemonChoice, findDaemon, withDaemonChoice } from './find-daemon.js';
import type { Io } from './io.js';
import { statusText } from './status-text.js';

interface StatusOptions extends DaemonChoice {
  readonly watch?: boolean;
  readonly json?: boolean;
}

/** Ages and byte counts move all the time; a person is shown them this often. */
const REDRAW_MS = 1_000;

export function statusCommand(program: Command, io: Io): void {
  withDaemonChoice(program.command('status'))
    .summary('show what the daemon on this machine does')
    .description(
      'Shows what the daemon on this machine does: its stream, its sessions, and what a person should act on.',
    )
    .option('--watch', 'keep showing it until interrupted; with --json a line for every change')
    .option('--json', 'print it as JSON')
    .addHelpText('after', '\nExamples:\n  vpnd status\n  vpnd status --role exit\n  vpnd status --watch --json')
    .action(async (options: StatusOptions) => {
      const api = await findDaemon(options, undefined, io);
      if (!options.watch) return print(await api.status(), options, io);
      const stop = new AbortController();
      const unlisten = io.onSignal(() => stop.abort());
      try {
        await (options.json ? follow(api, io, stop.signal) : redraw(api, io, stop.signal));
      } finally {
        unlisten();
      }
    });
}

/** Complete, as one line. */
export const statusJson = (status: NodeStatus): string =>
  `${toJsonString(NodeStatusSchema, status, { alwaysEmitImplicit: true })}\n`;

function print(status: NodeStatus, options: StatusOptions, io: Io): void {
  io.out(options.json ? statusJson(status) : statusText(status, Date.now()));
}

async function follow(api: LocalApi, io: Io, signal: AbortSignal): Promise<void> {
  for await (const status of api.watch(signal)) io.out(statusJson(status));
}

async function redraw(api: LocalApi, io: Io, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const text = statusText(await api.status(), Date.now());
    // Home and clear to the end: without flicker, and nothing of the screen's history is lost.
    io.out(io.interactive ? `\u001b[H\u001b[J${text}` : `${text}\n`);
    await pause(REDRAW_MS, undefined, { signal }).catch(() => {});
  }
}
