import type { Metrics } from '../../src/core/ports/metrics.js';

/** Metrics that can be read: `activeStreams{role=exit}` -> its value, or the sum or count of what was recorded. */
export interface TestMetrics extends Metrics {
  value(series: string): number;
}

export function testMetrics(): TestMetrics {
  const values = new Map<string, number>();
  const series = (name: string, labels: Readonly<Record<string, string>> = {}) => {
    const text = Object.entries(labels).map(([label, value]) => `${label}=${value}`);
    return text.length === 0 ? name : `${name}{${text.sort().join(',')}}`;
  };
  const add = (key: string, by: number) => void values.set(key, (values.get(key) ?? 0) + by);
  const counter = (name: string) => ({
    inc: (labels?: Readonly<Record<string, string>>, by = 1) => add(series(name, labels), by),
  });
  const gauge = (name: string) => ({
    set: (value: number, labels?: Readonly<Record<string, string>>) => void values.set(series(name, labels), value),
  });
  const histogram = (name: string) => ({
    observe: (_value: number, labels?: Readonly<Record<string, string>>) => add(series(name, labels), 1),
  });
  return {
    activeStreams: gauge('activeStreams'),
    streamAuthFailures: counter('streamAuthFailures'),
    heartbeatLatencyMs: histogram('heartbeatLatencyMs'),
    commandLatencySeconds: histogram('commandLatencySeconds'),
    commandSuccess: counter('commandSuccess'),
    commandFailure: counter('commandFailure'),
    wgPeers: gauge('wgPeers'),
    relaySessions: gauge('relaySessions'),
    sessions: gauge('sessions'),
    sessionOpens: counter('sessionOpens'),
    firstPacketMs: histogram('firstPacketMs'),
    repairs: counter('repairs'),
    tunnelChanges: counter('tunnelChanges'),
    reconnects: counter('reconnects'),
    outboxOverflows: counter('outboxOverflows'),
    exitViolations: counter('exitViolations'),
    connectionsRefused: counter('connectionsRefused'),
    value: (name) => values.get(name) ?? 0,
  };
}
