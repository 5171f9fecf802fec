import type { Duplex } from 'node:stream';
import type { Dns } from '../src/core/ports/dns.js';
import { VpndError } from '../src/model/errors.js';
import { type Millis, seconds } from '../src/model/time.js';
import { type DnsAnswer, type DnsRequest, parseObject } from './dns-protocol.js';

/** Several programs one after the other, each of which has its own limit. */
const PATIENCE: Millis = seconds(20);

type Question = DnsRequest extends infer R ? (R extends DnsRequest ? Omit<R, 'id'> : never) : never;

/** The same by way of a process that may: `open` answers with a way to it, and is asked again when that one has ended. */
export function remoteDns(open: () => Promise<Duplex>): Dns {
  const waiting = new Map<number, { settle: (answer: DnsAnswer) => void; fail: (why: string) => void }>();
  let serial = 0;
  let channel: Promise<Duplex> | undefined;

  const lost = (why: string) => {
    channel = undefined;
    for (const { fail } of waiting.values()) fail(why);
    waiting.clear();
  };
  const connect = async (): Promise<Duplex> => {
    const opened = await open();
    let pending = '';
    opened.setEncoding('utf8');
    opened.on('data', (chunk: string) => {
      const lines = `${pending}${chunk}`.split('\n');
      pending = lines.pop() ?? '';
      for (const line of lines) {
        const said = parseObject(line) as DnsAnswer | undefined;
        if (said === undefined) continue;
        waiting.get(said.id)?.settle(said);
        waiting.delete(said.id);
      }
    });
    const over = () => lost('it has ended');
    opened.on('error', over);
    opened.on('end', over);
    opened.on('close', over);
    // It is no reason to go on running.
    (opened as Duplex & { unref?: () => void }).unref?.();
    return opened;
  };
  const ask = async (question: Question): Promise<DnsAnswer> => {
    channel ??= connect();
    const to = await channel.catch((thrown: unknown) => {
      channel = undefined;
      throw thrown;
    });
    const id = ++serial;
    const answer = await new Promise<DnsAnswer>((resolve, reject) => {
      const fail = (why: string) =>
        reject(new VpndError('dataplane', `the process that sets the resolver does not answer: ${why}`));
      const late = setTimeout(() => {
        waiting.delete(id);
        fail(`nothing within ${PATIENCE / 1000} s`);
      }, PATIENCE);
      const settled = () => clearTimeout(late);
      waiting.set(id, {
        settle: (said) => {
          settled();
          resolve(said);
        },
        fail: (why) => {
          settled();
          fail(why);
        },
      });
      to.write(`${JSON.stringify({ id, ...question })}\n`);
    });
    if ('failed' in answer) throw new VpndError(answer.failed.code, answer.failed.message);
    return answer;
  };

  return {
    async put(wish) {
      const answer = await ask({ kind: 'put', wish });
      return 'report' in answer ? answer.report : unexpected();
    },
    async restore(devices) {
      const answer = await ask({ kind: 'restore', devices });
      return 'restored' in answer ? answer.restored : unexpected();
    },
    async way() {
      const answer = await ask({ kind: 'way' });
      return 'way' in answer ? answer.way : unexpected();
    },
    async close() {
      const opened = await channel?.catch(() => undefined);
      opened?.destroy();
    },
  };
}

function unexpected(): never {
  throw new VpndError('internal', 'the process that sets the resolver answers something else');
}
