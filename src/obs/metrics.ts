import {
  collectDefaultMetrics,
  Counter as PromCounter,
  Gauge as PromGauge,
  Histogram as PromHistogram,
  Registry,
} from 'prom-client';
import type { Counter, Gauge, Histogram, Metrics } from '../core/ports/metrics.js';

/** Load of the whole machine; only supernodes sample it. */
export interface HostMetrics {
  readonly cpuPercent: Gauge;
  readonly txMbps: Gauge;
  readonly rxMbps: Gauge;
}

type Kind = 'counter' | 'gauge' | 'histogram';
interface Declaration {
  readonly kind: Kind;
  readonly name: string;
  /** What it counts, and in which unit. */
  readonly help: string;
  readonly labels?: readonly string[];
  readonly buckets?: readonly number[];
}

const LATENCY_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];
const COMMAND_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20];
const FIRST_PACKET_MS = [50, 100, 200, 300, 500, 750, 1_000, 2_000, 5_000, 10_000];

/** Every metric there is. A label never holds anything that grows with the number of peers. */
export const METRICS = {
  activeStreams: {
    kind: 'gauge',
    name: 'active_streams_total',
    help: 'Authenticated control streams open at present, by role of the other end (streams).',
    labels: ['role'],
  },
  streamAuthFailures: {
    kind: 'counter',
    name: 'stream_auth_failures_total',
    help: 'Control streams refused before they were authenticated, by error code (streams).',
    labels: ['code'],
  },
  heartbeatLatencyMs: {
    kind: 'histogram',
    name: 'peer_heartbeat_latency_ms',
    help: 'Round trip of a ping on a control stream (milliseconds).',
    buckets: LATENCY_MS,
  },
  commandLatencySeconds: {
    kind: 'histogram',
    name: 'command_latency_seconds',
    help: 'From sending a command to its answer, retries included, by kind of command (seconds).',
    labels: ['kind'],
    buckets: COMMAND_SECONDS,
  },
  commandSuccess: {
    kind: 'counter',
    name: 'command_success_total',
    help: 'Commands that were applied and acknowledged, by kind (commands).',
    labels: ['kind'],
  },
  commandFailure: {
    kind: 'counter',
    name: 'command_failure_total',
    help: 'Commands that failed for good, by kind and error code (commands).',
    labels: ['kind', 'code'],
  },
  wgPeers: {
    kind: 'gauge',
    name: 'wg_peers_count',
    help: 'WireGuard peers configured on this node (peers).',
  },
  relaySessions: {
    kind: 'gauge',
    name: 'relay_sessions_active',
    help: 'Sessions that this supernode relays at present (sessions).',
  },
  sessions: {
    kind: 'gauge',
    name: 'sessions_active',
    help: 'Sessions this node takes part in at present, in whatever role (sessions).',
  },
  sessionOpens: {
    kind: 'counter',
    name: 'session_opens_total',
    help: 'Requests for a session, by result: ok or an error code (sessions).',
    labels: ['result'],
  },
  firstPacketMs: {
    kind: 'histogram',
    name: 'session_first_packet_ms',
    help: 'From asking for an exit to the first packet through the tunnel (milliseconds).',
    buckets: FIRST_PACKET_MS,
  },
  repairs: {
    kind: 'counter',
    name: 'dataplane_repairs_total',
    help: 'Kernel state that differed from what was wanted and was put right, by what it was (repairs).',
    labels: ['what'],
  },
  tunnelChanges: {
    kind: 'counter',
    name: 'tunnel_changes_total',
    help: 'What became of the tunnels of a client: connected, failed over, rotated, moved to another path, lost (changes).',
    labels: ['what'],
  },
  reconnects: {
    kind: 'counter',
    name: 'stream_reconnects_total',
    help: 'Times this node had to open its control stream again (streams).',
  },
  outboxOverflows: {
    kind: 'counter',
    name: 'outbox_overflows_total',
    help: 'Streams ended because the other end did not read (streams).',
  },
  exitViolations: {
    kind: 'counter',
    name: 'vpnd_exit_violations_total',
    help: "Packets of clients that an exit's rules refused, by what they violated (packets).",
    labels: ['kind'],
  },
  connectionsRefused: {
    kind: 'counter',
    name: 'connections_refused_total',
    help: 'TCP connections refused or cut to bound what strangers and floods cost, by reason (connections).',
    labels: ['reason'],
  },
} as const satisfies Record<keyof Metrics, Declaration>;

export const HOST_METRICS = {
  cpuPercent: {
    kind: 'gauge',
    name: 'supernode_cpu_pct',
    help: 'CPU time in use on the whole machine, all cores together (percent, 0 to 100).',
  },
  txMbps: {
    kind: 'gauge',
    name: 'supernode_net_tx_mbps',
    help: 'Sent on the interfaces towards the internet (megabits per second).',
  },
  rxMbps: {
    kind: 'gauge',
    name: 'supernode_net_rx_mbps',
    help: 'Received on the interfaces towards the internet (megabits per second).',
  },
} as const satisfies Record<keyof HostMetrics, Declaration>;

export interface OpenMetrics {
  readonly metrics: Metrics;
  readonly host: HostMetrics;
  readonly registry: Registry;
}

/** A registry of its own with every metric, and those of the process (`process_…`, `nodejs_…`). */
export function openMetrics(): OpenMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const gauge = (d: Declaration): Gauge<string> => {
    const real = new PromGauge({ ...common(d), registers: [registry] });
    const bound = boundLabels(d);
    return { set: (value, labels) => (labels ? real.set(bound(labels), value) : real.set(value)) };
  };
  const counter = (d: Declaration): Counter<string> => {
    const real = new PromCounter({ ...common(d), registers: [registry] });
    const bound = boundLabels(d);
    return { inc: (labels, by = 1) => (labels ? real.inc(bound(labels), by) : real.inc(by)) };
  };
  const histogram = (d: Declaration): Histogram<string> => {
    const real = new PromHistogram({ ...common(d), buckets: [...(d.buckets ?? LATENCY_MS)], registers: [registry] });
    const bound = boundLabels(d);
    return { observe: (value, labels) => (labels ? real.observe(bound(labels), value) : real.observe(value)) };
  };
  return {
    registry,
    host: {
      cpuPercent: gauge(HOST_METRICS.cpuPercent),
      txMbps: gauge(HOST_METRICS.txMbps),
      rxMbps: gauge(HOST_METRICS.rxMbps),
    },
    metrics: {
      activeStreams: gauge(METRICS.activeStreams),
      streamAuthFailures: counter(METRICS.streamAuthFailures),
      heartbeatLatencyMs: histogram(METRICS.heartbeatLatencyMs),
      commandLatencySeconds: histogram(METRICS.commandLatencySeconds),
      commandSuccess: counter(METRICS.commandSuccess),
      commandFailure: counter(METRICS.commandFailure),
      wgPeers: gauge(METRICS.wgPeers),
      relaySessions: gauge(METRICS.relaySessions),
      sessions: gauge(METRICS.sessions),
      sessionOpens: counter(METRICS.sessionOpens),
      firstPacketMs: histogram(METRICS.firstPacketMs),
      repairs: counter(METRICS.repairs),
      tunnelChanges: counter(METRICS.tunnelChanges),
      reconnects: counter(METRICS.reconnects),
      outboxOverflows: counter(METRICS.outboxOverflows),
      exitViolations: counter(METRICS.exitViolations),
      connectionsRefused: counter(METRICS.connectionsRefused),
    },
  };
}

const common = (d: Declaration) => ({ name: d.name, help: d.help, labelNames: [...(d.labels ?? [])] });

/** Values one label may take before the rest are counted as `other`. */
const LABEL_VALUES_LIMIT = 64;

/** Codes in answers come from other machines: they must not be able to fill this one's memory with label values. */
function boundLabels(d: Declaration): (labels: Readonly<Record<string, string>>) => Record<string, string> {
  const seen = new Map((d.labels ?? []).map((label) => [label, new Set<string>()]));
  return (labels) =>
    Object.fromEntries(
      Object.entries(labels).map(([label, value]) => {
        const values = seen.get(label) ?? new Set<string>();
        if (!/^[a-zA-Z0-9_.:-]{1,40}$/.test(value)) return [label, 'other'];
        if (!values.has(value) && values.size >= LABEL_VALUES_LIMIT) return [label, 'other'];
        values.add(value);
        return [label, value];
      }),
    );
}
