import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Host } from './host.js';
import { type PacketSummary, summarize } from './packets.js';
import { parsePcap, type RecordedPacket } from './pcap.js';
import type { Spawned } from './processes.js';

const START_LIMIT_MS = 30_000;
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
      '-s0',
      ...['-Z', 'root'],
      ...['-i', device],
      ...['-w', path],
      ...(filter === '' ? [] : [filter]),
    ]);
    await tcpdump.waitForLine(/listening on/, START_LIMIT_MS);
    return new Capture(path, tcpdump);
  }

  /** End the recording; answers with what it holds. */
  async stop(): Promise<PacketSummary> {
    this.#tcpdump.kill('SIGINT');
    await this.#tcpdump.exited;
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
