import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Host } from './host.js';
import { type PacketSummary, summarize } from './packets.js';
import { parsePcap, type RecordedPacket } from './pcap.js';
import type { Spawned } from './processes.js';

const START_LIMIT_MS = 30_000;
/**
 * Room for a thousand packets that a busy machine does not write down at once. Each takes as much of the buffer as the
 * largest may: with tcpdump's own settings it is seven.
 */
const BUFFER_KIB = 65_536;
/** Whole packets, segmentation offload included; with its header one just fits into 64 KiB. */
const SNAPLEN = 65_400;
let captures = 0;

/** A recording of packets, made by Host.capture. */
export class Capture {
  /** The pcap file, for tcpdump or Wireshark; complete after `stop`, removed with the lab. */
  readonly path: string;
  readonly #tcpdump: Spawned;

  private constructor(path: string, tcpdump: Spawned) {
    this.path = path;
    this.#tcpdump = tcpdump;
  }

  /** For Host.capture. */
  static async start(host: Host, device: string, filter: string): Promise<Capture> {
    const path = join(host.directory, `capture-${++captures}.pcap`);
    const tcpdump = host.spawn([
      'tcpdump',
      '-n',
      '-U',
      '--immediate-mode',
      ...['-s', String(SNAPLEN)],
      ...['-B', String(BUFFER_KIB)],
      ...['-Z', 'root'],
      ...['-i', device],
      ...['-w', path],
      ...(filter === '' ? [] : [filter]),
    ]);
    await tcpdump.waitForLine(/listening on/, START_LIMIT_MS);
    return new Capture(path, tcpdump);
  }

  /** End the recording; answers with what it holds. Throws when packets are missing in it: it would prove nothing. */
  async stop(): Promise<PacketSummary> {
    this.#tcpdump.kill('SIGINT');
    const [, dropped] = await this.#tcpdump.waitForLine(/(\d+) packets? dropped by kernel/);
    await this.#tcpdump.exited;
    if (dropped !== '0') throw new Error(`${dropped} packets are missing in ${this.path}: the machine was too busy`);
    return this.summary();
  }

  /** What has been recorded so far. */
  async summary(): Promise<PacketSummary> {
    return summarize(await this.packets());
  }

  async packets(): Promise<RecordedPacket[]> {
    return parsePcap(await readFile(this.path));
  }
}
