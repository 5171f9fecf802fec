import { toJson } from '@bufbuild/protobuf';
import type { Command } from 'commander';
import { integer } from '../config/values.js';
import { type NodeEvent, NodeEventSchema } from '../gen/vpnd/v1/admin_pb.js';
import { shortId } from '../model/ids.js';
import { type DaemonChoice, findDaemon, withDaemonChoice } from './find-daemon.js';
import type { Io } from './io.js';
import { plain, second } from './text.js';
import { check } from './up.js';

interface EventsOptions extends DaemonChoice {
  readonly watch?: boolean;
  readonly json?: boolean;
  readonly limit: string;
}

export function eventsCommand(program: Command, io: Io): void {
  withDaemonChoice(program.command('events'))
    .summary('show what happened to the daemon on this machine')
    .description(
      'Shows what happened to the daemon on this machine, oldest first: exits and paths that were changed and why, networks that came and went, repairs. The latest 300 are kept, restarts included.',
    )
    .option('--watch', 'then show each event as it happens, until interrupted')
    .option('--limit <number>', 'the newest so many', '50')
    .option('--json', 'print them as JSON; with --watch a line for each')
    .addHelpText('after', '\nExamples:\n  vpnd events\n  vpnd events --limit 5 --json\n  vpnd events --watch')
    .action(async (options: EventsOptions) => {
      const limit = check('--limit', options.limit, integer(1, 100_000)) ?? 50;
      const api = await findDaemon(options, undefined, io);
      if (!options.watch) {
        const events = await api.events(limit);
        if (options.json) io.out(`${JSON.stringify(events.map(asJson))}\n`);
        else io.out(events.length === 0 ? 'nothing has happened yet\n' : events.map(eventLine).join(''));
        return;
      }
      const stop = new AbortController();
      const unlisten = io.onSignal(() => stop.abort());
      try {
        for await (const event of api.watchEvents(limit, stop.signal)) {
          io.out(options.json ? `${JSON.stringify(asJson(event))}\n` : eventLine(event));
        }
      } finally {
        unlisten();
      }
    });
}

const asJson = (event: NodeEvent): unknown => toJson(NodeEventSchema, event, { alwaysEmitImplicit: true });

/** As wide as `supernode-changed`. */
const CODE_WIDTH = 17;

/** `2026-03-01 12:00:00 UTC  failed-over        the exit fell silent  (session 0123456789)`. */
export function eventLine({ atMs, code, text, sessionId }: NodeEvent): string {
  const session = sessionId === '' ? '' : `  (session ${shortId(sessionId)})`;
  return `${second(Number(atMs))}  ${plain(code).padEnd(CODE_WIDTH)}  ${plain(text)}${session}\n`;
}
