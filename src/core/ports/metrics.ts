/** Every metric of every role, declared in src/obs/metrics.ts with HELP and unit; here by name for those who count. */
export interface Counter<L extends string = never> {
  inc(labels?: Readonly<Record<L, string>>, by?: number): void;
}
export interface Gauge<L extends string = never> {
  set(value: number, labels?: Readonly<Record<L, string>>): void;
}
export interface Histogram<L extends string = never> {
  observe(value: number, labels?: Readonly<Record<L, string>>): void;
}

export interface Metrics {
  readonly activeStreams: Gauge<'role'>;
  readonly streamAuthFailures: Counter<'code'>;
  readonly heartbeatLatencyMs: Histogram;
  readonly commandLatencySeconds: Histogram<'kind'>;
  readonly commandSuccess: Counter<'kind'>;
  readonly commandFailure: Counter<'kind' | 'code'>;
  readonly wgPeers: Gauge;
  readonly relaySessions: Gauge;
  readonly sessions: Gauge;
  readonly sessionOpens: Counter<'result'>;
  readonly firstPacketMs: Histogram;
  readonly repairs: Counter<'what'>;
  readonly tunnelChanges: Counter<'what'>;
  readonly reconnects: Counter;
  readonly outboxOverflows: Counter;
  readonly exitViolations: Counter<'kind'>;
  readonly connectionsRefused: Counter<'reason'>;
}
