import { type FirstPacket, firstPackets, type Overlay } from '../../chaos/overlay/index.js';
import { cpuTime } from '../lib/process-cost.js';
import type { Result, Row } from '../lib/report.js';
import { percentile, type Summary, summarise } from '../lib/statistics.js';

export interface FirstPacketSummary {
  /** What was said when a session did not open. */
  readonly failures: readonly string[];
  /** From the request to the daemon's answer that the tunnel is up. */
  readonly answeredMs: Summary;
  readonly firstPacketMs: Summary;
  /** What opening and closing a session costs each daemon, and the programs it starts; wireguard-go is not among them. */
  readonly cpuPerSession: readonly { readonly node: string; readonly ownMs: number; readonly toolsMs: number }[];
}

/** A failure costs the samples of its group, and nothing else. */
const AT_A_TIME = 50;

/**
 * From the request to the first packet, as the client's machine sees it: the clock starts with the call to the daemon's
 * local API and stops with the SYN-ACK of a TCP connection through the tunnel. Each session is closed before the next
 * is asked for. Through both relays, behind two home routers.
 */
export async function benchFirstPacket(
  overlay: Overlay,
  command: string,
  sessions: number,
): Promise<Result<FirstPacketSummary>> {
  const nodes = overlay.nodes;
  const before = nodes.map((node) => cpuTime(node.pid));
  const measured: FirstPacket[] = [];
  const failures: string[] = [];
  for (let asked = 0; asked < sessions; asked += AT_A_TIME) {
    try {
      measured.push(...(await firstPackets(overlay, Math.min(AT_A_TIME, sessions - asked), 'us')));
    } catch (thrown) {
      failures.push(thrown instanceof Error ? thrown.message : String(thrown));
    }
    await overlay.client.cli('down');
  }
  const cpu = nodes.map((node, i) => {
    const after = cpuTime(node.pid);
    const ms = (from: number, to: number) => ((to - from) * 1000) / sessions;
    return {
      node: node.name,
      ownMs: ms(before[i]?.own ?? 0, after.own),
      toolsMs: ms(before[i]?.children ?? 0, after.children),
    };
  });
  const answered = measured.map((one) => one.answeredMs);
  const first = measured.map((one) => one.firstPacketMs);
  return {
    name: 'first-packet',
    command,
    configuration: {
      sessions,
      path: 'relay2',
      topology: 'client - home NAT - supernode A - supernode B - home NAT - exit - web, in network namespaces',
      stops: 'SYN-ACK of a TCP connection through the tunnel',
      warmUp: 'none: the first session is among the samples',
    },
    summary: {
      failures,
      answeredMs: summarise(answered),
      firstPacketMs: summarise(first),
      cpuPerSession: cpu,
    },
    targets: [
      { what: 'request to first packet, p50', limit: 60, measured: percentile(first, 0.5), unit: 'ms' },
      { what: 'request to first packet, p99', limit: 250, measured: percentile(first, 0.99), unit: 'ms' },
    ],
    samples: { answeredMs: answered, firstPacketMs: first },
  };
}

export const percentileRows = ({ answeredMs, firstPacketMs }: FirstPacketSummary): readonly Row[] =>
  Object.entries({ 'the daemon says it is up': answeredMs, 'first packet back': firstPacketMs }).map(
    ([what, { min, p50, p90, p99, max }]): Row => [what, min, p50, p90, p99, max],
  );

export const cpuRows = ({ cpuPerSession }: FirstPacketSummary): readonly Row[] =>
  cpuPerSession.map(({ node, ownMs, toolsMs }): Row => [node, ownMs, toolsMs]);
