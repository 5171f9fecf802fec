import t from 'tap';
import { VpndError } from '../../src/model/errors.js';
import { type Opening, type OpeningDeps, openTunnel } from '../../src/roles/client/opening.js';
import { VirtualClock } from '../support/virtual-clock.js';

t.test('an attempt that was given up before it began ends nothing but itself', async (t) => {
  const unheard: unknown[] = [];
  const hear = (reason: unknown) => unheard.push(reason);
  process.on('unhandledRejection', hear);
  t.teardown(() => process.off('unhandledRejection', hear));
  const giveUp = new AbortController();
  giveUp.abort(new VpndError('closed', 'given up'));
  const keys = { publicKey: 'public', privateKey: 'private' };
  const dropped: number[] = [];
  const deps = {
    ports: { clock: new VirtualClock(), crypto: { wireGuardKeyPair: () => keys }, log: { warn: () => {} } },
    pairs: { take: () => undefined },
    answersTcp: async () => false,
    tunnels: {
      reserve: () => ({ slot: 1, keys }),
      get: () => ({ slot: 1, keys }),
      drop: (slot: number) => dropped.push(slot),
      // An interface takes its time: turns of the event loop, not of promises alone.
      commit: () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve))),
    },
  } as unknown as OpeningDeps;
  const refused = new VpndError('closed', 'not connected to a supervisor: it was shut out of this overlay');
  const upstream = { requestExit: () => Promise.reject(refused), ping: () => {} };
  const opening = {
    wish: {},
    use: 'standby',
    avoidExits: [],
    avoidSupernodes: [],
    signal: giveUp.signal,
    line: { upstream, supervisor: () => undefined },
  } as unknown as Opening;
  await t.rejects(openTunnel(deps, opening), { message: 'given up' });
  t.same(dropped, [1], 'nothing of it is left');
  t.same(unheard, [], 'the supernode’s refusal, which nobody waits for, is nobody’s trouble');
});
