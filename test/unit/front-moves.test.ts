import t from 'tap';
import { VpndError } from '../../src/model/errors.js';
import type { FrontDeps } from '../../src/roles/supernode/front.js';
import type { FrontBook, FrontSession } from '../../src/roles/supernode/front-book.js';
import { FrontMoves } from '../../src/roles/supernode/front-moves.js';
import type { FrontRelay } from '../../src/roles/supernode/front-relay.js';
import { seededRandom } from '../support/seeded-random.js';

const endpoint = { ip: '198.51.100.32', port: 40_001 };

/** A session on its way back to its relays, whose client answers so. */
async function returning(established: boolean, answer: VpndError | undefined) {
  const session = {
    session: 's1',
    client: 'c1',
    generation: 3,
    port: 40_007,
    path: 'relay2',
    next: endpoint,
    localIp: '198.51.100.31',
    established,
    way: { kind: 'returning' },
  } as unknown as FrontSession;
  let held = session;
  const gone: string[] = [];
  const deps = {
    random: seededRandom(1),
    log: { info: () => {} },
    streams: () => ({
      peer: () => ({ id: 'c1' }),
      command: () => (answer === undefined ? Promise.resolve() : Promise.reject(answer)),
    }),
    updateAt: async () => ({ endpoint }),
  } as unknown as FrontDeps;
  const book = {
    get: () => held,
    note: (one: FrontSession) => {
      held = one;
    },
  } as unknown as FrontBook;
  const relay = {
    leaseOf: () => 60_000,
    order: async () => {},
    follow: async (one: FrontSession) => one,
  } as unknown as FrontRelay;
  const moves = new FrontMoves(deps, book, relay, (one) => gone.push(one.session));
  const done = await moves.toRelays(session.session);
  return { done, gone, way: held.way.kind };
}

t.test('a session that goes back to its relays', async (t) => {
  const noSession = new VpndError('no-session', 'session s1 is not held here');
  t.same(await returning(true, undefined), { done: true, gone: [], way: 'granted' }, 'is there as before');
  t.same(
    await returning(true, new VpndError('not-supported', 'what is that?')),
    { done: true, gone: [], way: 'granted' },
    'nor is it missed by a client that knows no such command',
  );
  t.same(
    await returning(true, noSession),
    { done: true, gone: ['s1'], way: 'granted' },
    'is ended where its client does not hold it any more: nobody else ever would, while the client is connected',
  );
  t.same(
    await returning(false, noSession),
    { done: true, gone: [], way: 'granted' },
    'but not while its grant may still be on its way to the client',
  );
  t.match(
    await returning(true, new VpndError('timeout', 'no answer')),
    { done: false, gone: [] },
    'and is tried again',
  );
});
