/** The fields a log line may carry besides its text; declared once so that dashboards can rely on them. */
export interface LogFields {
  readonly peer_id?: string;
  readonly session_id?: string;
  readonly command_id?: string;
  readonly region?: string;
  readonly role?: string;
  readonly code?: string;
  readonly path?: string;
  readonly reason?: string;
  readonly count?: number;
  readonly took_ms?: number;
  /** An address of a peer. Written at debug only, never with --log-privacy strict. */
  readonly remote?: string;
  readonly unit?: string;
  readonly supernode_id?: string;
  readonly err?: unknown;
}

/**
 * `warn`: would you want to be told in the morning? `error`: now. No key, token or client address above debug.
 */
export interface Log {
  debug(text: string, fields?: LogFields): void;
  info(text: string, fields?: LogFields): void;
  warn(text: string, fields?: LogFields): void;
  error(text: string, fields?: LogFields): void;
  child(fields: LogFields): Log;
}
