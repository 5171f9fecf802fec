import { fileURLToPath } from 'node:url';
import type { Overlay } from './overlay.js';

export interface FirstPacket {
  /** From the request to the daemon's answer, milliseconds. */
  readonly answeredMs: number;
  /** From the request to the first packet back through the tunnel, milliseconds. */
  readonly firstPacketMs: number;
}

const SCRIPT = fileURLToPath(new URL('./first-packet.js', import.meta.url));

/** Opens `times` sessions one after the other on the client's machine; the last one stays up. Throws with what went wrong. */
export async function firstPackets(overlay: Overlay, times: number, region = ''): Promise<FirstPacket[]> {
  const { client, web } = overlay;
  const argv = [process.execPath, SCRIPT, client.socket, web.host.ipv4 ?? '', '80', String(times), region];
  const ran = await client.host.run(argv, { timeout: 60_000 + times * 5_000 });
  if (ran.code !== 0) throw new Error(oneLine(ran.stderr) || `first-packet ended with ${ran.code}`);
  return ran.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as FirstPacket);
}

/** Megabits per second of one HTTP download through whatever way the client's routes say. */
export async function download(overlay: Overlay, bytes: number): Promise<number> {
  const argv = ['curl', '-sS', '-o', '/dev/null', '-w', '%{size_download} %{time_total}', '--max-time', '30'];
  const ran = await overlay.client.host.exec([...argv, `${overlay.web.url}/bytes/${bytes}`], { timeout: 40_000 });
  const [size = 0, seconds = 1] = ran.split(' ').map(Number);
  if (size !== bytes) throw new Error(`the download ended after ${size} of ${bytes} bytes`);
  return (size * 8) / seconds / 1e6;
}

const oneLine = (text: string): string =>
  text
    .split('\n')
    .find((line) => /error/i.test(line))
    ?.trim() ?? '';
