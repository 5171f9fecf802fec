import { type Summary, summarise } from '../lib/statistics.js';

/** What a number of callers got done who each ask again as soon as they are answered. */
export interface Flood {
  readonly perSecond: number;
  readonly ms: Summary;
  /** Of the daemon, for each. */
  readonly cpuMs: number;
  readonly failures: Readonly<Record<string, number>>;
}

export async function flood(
  options: { readonly callers: number; readonly seconds: number; readonly cpu: () => number },
  call: (caller: number, n: number) => Promise<unknown>,
): Promise<Flood> {
  const took: number[] = [];
  const failures: Record<string, number> = {};
  const cpu = options.cpu();
  const began = performance.now();
  const until = began + options.seconds * 1000;
  let n = 0;
  const caller = async (_: unknown, who: number) => {
    while (performance.now() < until) {
      const started = performance.now();
      try {
        await call(who, n++);
        took.push(performance.now() - started);
      } catch (thrown) {
        const why =
          thrown instanceof Error ? ('code' in thrown ? String(thrown.code) : thrown.message) : String(thrown);
        failures[why] = (failures[why] ?? 0) + 1;
      }
    }
  };
  await Promise.all(Array.from({ length: options.callers }, caller));
  const seconds = (performance.now() - began) / 1000;
  if (took.length === 0) throw new Error(`nothing was answered: ${JSON.stringify(failures)}`);
  const cpuMs = ((options.cpu() - cpu) * 1000) / took.length;
  return { perSecond: took.length / seconds, ms: summarise(took), cpuMs, failures };
}
