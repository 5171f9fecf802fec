import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { Host, Lab } from '../../chaos/lab/index.js';
import { OverlayNode } from '../../chaos/overlay/index.js';
import { cpuTime, memoryUse } from '../lib/process-cost.js';

const BASE = '198.51.100.5';
export const SUPERNODE = '198.51.100.1';
/** As deploy/systemd/vpnd-supernode.service sets it. */
export const NODE_FLAGS = unitsFlags();
const COLLECT = new URL('../load/collect.js', import.meta.url).href;
const METRICS_PORT = 9401;

/** KB of memory of a process. */
export interface Memory {
  readonly rssKb: number;
  readonly pssKb: number;
  /** Of V8's heap, what is in use. Known after a collection only. */
  readonly heapKb?: number;
}

export async function startBase(lab: Lab): Promise<OverlayNode> {
  const host = await lab.publicHost('base', { ipv4: BASE });
  const base = new OverlayNode('base', host, 'base', ['--listen', '0.0.0.0:7400', '--advertise', `${BASE}:7400`]);
  await base.start();
  return base;
}

/** The daemon under measurement: the real binary, real base, no data plane, the flags of the systemd unit. */
export class MeasuredSupernode {
  readonly node: OverlayNode;
  readonly #extra: readonly string[];

  private constructor(node: OverlayNode, extra: readonly string[]) {
    this.node = node;
    this.#extra = extra;
  }

  /** @param extra more flags for Node, for who looks for reasons */
  static async start(
    lab: Lab,
    base: OverlayNode,
    options: { readonly region: string; readonly capacity: number; readonly extra: readonly string[] },
  ): Promise<MeasuredSupernode> {
    const host = await lab.publicHost('sn', { ipv4: SUPERNODE });
    await host.sysctl('net.core.somaxconn=4096');
    const args = ['--role', 'supernode', '--region', options.region];
    const { token } = await base.json<{ token: string }>('token', 'create', ...args);
    const node = new OverlayNode('sn', host, 'supernode', [
      ...['--region', options.region, '--listen', '0.0.0.0:443', '--advertise', `${SUPERNODE}:443`],
      ...['--relay-ip', SUPERNODE, '--dataplane', 'memory', '--capacity', String(options.capacity)],
      ...['--metrics', `127.0.0.1:${METRICS_PORT}`],
    ]);
    const measured = new MeasuredSupernode(node, options.extra);
    await node.start({ token, env: measured.#env() });
    return measured;
  }

  /** Starts it again after a crash; resolves at once. */
  restart(): void {
    this.node.spawn({ env: this.#env() });
  }

  get host(): Host {
    return this.node.host;
  }

  get pid(): number {
    return this.node.pid;
  }

  #env(): Record<string, string> {
    return { NODE_OPTIONS: [...NODE_FLAGS, `--import=${COLLECT}`, ...this.#extra].join(' ') };
  }

  memory(): Memory {
    const { rss, pss } = memoryUse(this.pid);
    return { rssKb: rss / 1024, pssKb: pss / 1024 };
  }

  /** Memory after a full garbage collection, and with what V8 says of its heap. */
  async collected(): Promise<Memory & { readonly tookMs: number }> {
    const before = this.node.process.lines('stderr').filter((line) => line.startsWith('collected')).length;
    process.kill(this.pid, 'SIGUSR2');
    for (;;) {
      const all = this.node.process.lines('stderr').filter((line) => line.startsWith('collected'));
      const [last] = all.slice(before).slice(-1);
      if (last !== undefined) {
        const said = JSON.parse(last.slice('collected '.length)) as { tookMs: number; heapUsed: number };
        await pause(500);
        return { ...this.memory(), heapKb: said.heapUsed / 1024, tookMs: said.tookMs };
      }
      await pause(20);
    }
  }

  /** CPU seconds of it so far, children (none here) left out. */
  cpu(): number {
    return cpuTime(this.pid).own;
  }

  /** Milliseconds of CPU per second, over so many seconds. */
  async cpuOver(seconds: number): Promise<number> {
    const [before, began] = [this.cpu(), performance.now()];
    await pause(seconds * 1000);
    return ((this.cpu() - before) * 1e6) / (performance.now() - began);
  }

  descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** A line of its metrics by name and labels, as Prometheus reads it. */
  async metric(line: string): Promise<number> {
    const text = await this.host.exec(['curl', '-s', `http://127.0.0.1:${METRICS_PORT}/metrics`]);
    const found = text.split('\n').find((one) => one.startsWith(`${line} `));
    return found === undefined ? 0 : Number(found.slice(line.length + 1));
  }
}

function unitsFlags(): readonly string[] {
  const unit = readFileSync('deploy/systemd/vpnd-supernode.service', 'utf8');
  const flags = /^Environment=NODE_OPTIONS=(.*)$/m.exec(unit)?.[1];
  if (flags === undefined) throw new Error('the systemd unit sets no NODE_OPTIONS');
  return flags.split(' ');
}
