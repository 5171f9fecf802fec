import { type DestinationStream, destination, type Level, pino } from 'pino';
import type { Log, LogFields } from '../core/ports/log.js';
import { VpndError } from '../model/errors.js';
import type { Role } from '../model/role.js';
import { type AddressDetail, type IdDetail, scrubAddresses, scrubIds, scrubSecrets } from './scrub.js';

export interface LogOptions {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  /**
   * `strict`: no address and no session at any level, so that nobody is tied to one; peers by the beginnings of their ids.
   * `partial`: the beginnings of all ids, and of an address its /24 or /48 at debug. `off`: whole ids, and whole addresses at
   * debug. Keys and tokens: never.
   */
  readonly privacy: 'strict' | 'partial' | 'off';
  readonly role: Role;
  readonly region?: string | undefined;
  /** Where lines go; standard error unless given. */
  readonly destination?: DestinationStream;
}

/** What may stand in a line; a field that a caller smuggles past the type is left out. */
const FIELDS = {
  peer_id: true,
  session_id: true,
  command_id: true,
  region: true,
  role: true,
  code: true,
  path: true,
  reason: true,
  count: true,
  took_ms: true,
  remote: true,
  unit: true,
  supernode_id: true,
  err: true,
} as const satisfies Record<keyof LogFields, true>;

const DETAIL_AT_DEBUG: Record<LogOptions['privacy'], AddressDetail> = {
  strict: 'none',
  partial: 'network',
  off: 'whole',
};

const IDS: Record<LogOptions['privacy'], IdDetail> = {
  strict: { peers: 'short', sessions: 'none' },
  partial: { peers: 'short', sessions: 'short' },
  off: { peers: 'whole', sessions: 'whole' },
};
/** Commands are a session's, so that theirs tie lines together as well. */
const OF_SESSIONS: ReadonlySet<string> = new Set(['session_id', 'command_id']);

/**
 * JSON lines: `time` (ISO 8601), `level` (a word), `daemon` (this one's role; `role` is that of
 * whom a line is about), `msg`, and the fields of LogFields. No key, token or peer's
 * address is in a line above debug, nor in what exceptions say; lines are written before the call returns, so that the
 * last one before a crash is there.
 */
export function openLog(options: LogOptions): Log {
  const sink = options.destination ?? destination({ dest: 2, sync: true });
  const writer = pino(
    {
      level: options.level,
      base: { daemon: options.role },
      timestamp: pino.stdTimeFunctions.isoTime,
      // Errors are described here, and pino's own serialiser would write stacks at every level.
      serializers: { err: (described) => described },
      formatters: { level: (level) => ({ level }) },
    },
    sink,
  );
  return lines(writer, options, options.region === undefined ? {} : { region: options.region });
}

function lines(writer: pino.Logger, options: LogOptions, bound: LogFields): Log {
  const write = (level: Level, text: string, fields: LogFields | undefined): void => {
    if (!writer.isLevelEnabled(level)) return;
    const detail = level === 'debug' ? DETAIL_AT_DEBUG[options.privacy] : 'none';
    const ids = IDS[options.privacy];
    const clean = (value: string): string => scrubAddresses(scrubIds(scrubSecrets(value), ids), detail);
    const line: Record<string, unknown> = {};
    for (const [name, value] of Object.entries({ ...bound, ...fields })) {
      if (!Object.hasOwn(FIELDS, name) || value === undefined) continue;
      if (ids.sessions === 'none' && OF_SESSIONS.has(name)) continue;
      if (name === 'err') line.err = describe(value, clean, options.level === 'debug');
      else if (name === 'remote') {
        if (detail !== 'none') line.remote = clean(String(value));
      } else line[name] = typeof value === 'number' ? value : clean(String(value));
    }
    writer[level](line, clean(text));
  };
  return {
    debug: (text, fields) => write('debug', text, fields),
    info: (text, fields) => write('info', text, fields),
    warn: (text, fields) => write('warn', text, fields),
    error: (text, fields) => write('error', text, fields),
    child: (fields) => lines(writer, options, { ...bound, ...fields }),
  };
}

/** An exception as a log holds it: its code, what it says, what it says it comes from; where, only when debugging. */
function describe(thrown: unknown, clean: (text: string) => string, withStack: boolean): Record<string, unknown> {
  if (!(thrown instanceof Error)) return { message: clean(String(thrown)) };
  const code = thrown instanceof VpndError ? thrown.code : (thrown as NodeJS.ErrnoException).code;
  const cause = thrown.cause instanceof Error ? thrown.cause.message : undefined;
  return {
    // A DOMException's code is a number that says less than its message.
    ...(typeof code === 'string' ? { code } : {}),
    message: clean(thrown.message),
    ...(cause === undefined || cause === thrown.message ? {} : { cause: clean(cause) }),
    ...(withStack && thrown.stack !== undefined ? { stack: clean(thrown.stack) } : {}),
  };
}
