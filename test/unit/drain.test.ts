import t from 'tap';
import type { PeerId, SessionId } from '../../src/model/ids.js';
import type { MoveSessionsRequest } from '../../src/model/messages.js';
import { minutes, ms, seconds } from '../../src/model/time.js';
import type { BackSession } from '../../src/roles/supernode/back.js';
import { Drain } from '../../src/roles/supernode/drain.js';
import type { FrontSession } from '../../src/roles/supernode/front.js';
import type { MoveWish } from '../../src/roles/supernode/moves.js';
import type { ConnectedPeer } from '../../src/transport/stream-manager.js';
import { seededRandom } from '../support/seeded-random.js';
import { testLog } from '../support/test-log.js';
import { VirtualClock } from '../support/virtual-clock.js';

const SELF = 'a'.repeat(52) as PeerId;
const OTHER = 'b'.repeat(52) as PeerId;
const EXIT = 'e'.repeat(52) as PeerId;
const FAR_EXIT = 'f'.repeat(52) as PeerId;

type Front = Pick<FrontSession, 'session' | 'client' | 'exit' | 'supernode'>;
type Back = Pick<BackSession, 'session' | 'origin' | 'exit'>;

/** A supernode's books and streams as a test writes them, and what the drain asks of whom. */
function drained(books: { front?: readonly Front[]; back?: readonly Back[]; elsewhere?: boolean }) {
  const clock = new VirtualClock();
  const world = {
    clock,
    front: [...(books.front ?? [])],
    back: [...(books.back ?? [])],
    exits: new Set<PeerId>((books.back ?? []).map((one) => one.exit)),
    idle: new Set<PeerId>(),
    elsewhere: books.elsewhere ?? true,
    announced: 0,
    asked: [] as { at: number; sessions: readonly SessionId[]; wish: MoveWish }[],
    moved: [] as ({ at: number; supernode: PeerId } & MoveSessionsRequest)[],
    dismissed: [] as PeerId[],
    events: [] as string[],
  };
  const clients = () => new Set([...world.front.map((one) => one.client), ...world.idle]);
  const peer = (id: PeerId, role: 'exit' | 'client') => ({ id, role }) as ConnectedPeer;
  const drain = new Drain({
    self: SELF,
    clock,
    random: seededRandom(1),
    log: testLog(),
    history: { record: (code) => void world.events.push(code) },
    streams: () => ({
      peer: (id) => (clients().has(id) ? peer(id, 'client') : undefined),
      byRole: (role) => [...(role === 'exit' ? world.exits : clients())].map((id) => peer(id, role as 'exit')),
      count: (role) => (role === 'exit' ? world.exits.size : world.exits.size + clients().size),
      disconnect: (id) => {
        world.dismissed.push(id);
        world.idle.delete(id);
        world.exits.delete(id);
      },
    }),
    front: { all: () => world.front as unknown as readonly FrontSession[] },
    back: {
      all: () => world.back as unknown as readonly BackSession[],
      countAt: (exit) => world.back.filter((one) => one.exit === exit).length,
    },
    moves: {
      askClients: (sessions, wish) => void world.asked.push({ at: clock.monotonic(), sessions: [...sessions], wish }),
      askSupernode: (supernode, sessions, wish) =>
        void world.moved.push({ at: clock.monotonic(), supernode, sessions, ...wish }),
    },
    elsewhere: async () => world.elsewhere,
    next: () => ({ next: '198.51.100.2:443' }),
    announce: () => void world.announced++,
    changed: () => {},
  });
  return { ...world, world, drain };
}

const session = (n: number) => n.toString(16).padStart(32, '0') as SessionId;
const client = (n: number) => `c${n}`.padEnd(52, 'c') as PeerId;
const front = (n: number, more: Partial<Front> = {}): Front => ({
  session: session(n),
  client: client(n),
  exit: FAR_EXIT,
  supernode: OTHER,
  ...more,
});
const fronts = (count: number): Front[] => Array.from({ length: count }, (_, n) => front(n));

t.test('everybody is asked once, at a pace that the neighbours can take', async (t) => {
  const { world, drain, clock } = drained({ front: fronts(1_000) });
  await clock.run(drain.begin({ force: false }));
  await clock.advance(seconds(9));
  const asked = world.asked.flatMap((one) => one.sessions.map((session) => ({ at: one.at, session })));
  for (let from = 0; from < 8_000; from += 100) {
    const inOneSecond = asked.filter(({ at }) => at >= from && at < from + 1_000).length;
    t.ok(inOneSecond <= 65, `${inOneSecond} within a second`);
  }
  t.ok(asked.length > 400 && asked.length <= 450, `${asked.length} in nine seconds`);
  t.equal(new Set(asked.map((one) => one.session)).size, asked.length, 'nobody twice before everybody once');
  t.match(world.asked[0]?.wish, { leaveSupernode: true, urgent: false, avoidExits: [] });
  drain.stop();
});

t.test('those who stay are asked again, those who have gone are not', async (t) => {
  const { world, drain, clock } = drained({ front: fronts(3) });
  await clock.run(drain.begin({ force: false }));
  await clock.advance(seconds(5));
  world.front.splice(0, 2);
  await clock.advance(seconds(10));
  const times = (n: number) => world.asked.filter((one) => one.sessions.includes(session(n))).length;
  t.same([times(0), times(1), times(2)], [1, 1, 2]);
  drain.stop();
});

t.test('who uses an exit here moves once it can be found elsewhere, with or without it', async (t) => {
  const back: Back = { session: session(7), origin: OTHER, exit: EXIT };
  const { world, drain, clock } = drained({
    front: [front(1, { exit: EXIT, supernode: SELF }), front(2)],
    back: [{ session: session(1), origin: SELF, exit: EXIT }, back],
  });
  await clock.run(drain.begin({ force: false }));
  t.equal(world.announced, 1, 'exits hear of it at once');
  await clock.advance(seconds(1));
  t.same(
    world.asked.flatMap((one) => one.sessions),
    [session(2)],
  );
  t.same(world.moved, []);
  await clock.advance(seconds(2));
  t.same(
    world.asked.flatMap((one) => one.sessions),
    [session(2), session(1)],
  );
  t.match(world.moved, [{ supernode: OTHER, sessions: [session(7)], leaveExit: false, urgent: false }]);
  await clock.advance(seconds(25));
  t.equal(world.moved.at(-1)?.leaveExit, true, 'an exit that found no other way in is left');
  t.match(world.asked.at(-1)?.wish.avoidExits, [EXIT]);
  drain.stop();
});

t.test('its own egress ends with it, so who uses that goes to another exit at once', async (t) => {
  const { world, drain, clock } = drained({
    front: [front(1, { exit: SELF, supernode: SELF })],
    back: [
      { session: session(1), origin: SELF, exit: SELF },
      { session: session(2), origin: OTHER, exit: SELF },
    ],
  });
  await clock.run(drain.begin({ force: false }));
  await clock.advance(seconds(1));
  t.match(world.asked, [{ wish: { avoidExits: [SELF] } }]);
  t.match(world.moved, [{ sessions: [session(2)], leaveExit: true }]);
  drain.stop();
});

t.test('it is watched until nobody is left', async (t) => {
  const { world, drain, clock } = drained({ front: fronts(2) });
  await clock.run(drain.begin({ force: false }));
  const steps: unknown[] = [];
  const watching = (async () => {
    for await (const step of drain.watch(minutes(1), new AbortController().signal)) steps.push(step);
  })();
  await clock.advance(seconds(2));
  world.front.splice(0, 1);
  await clock.advance(seconds(2));
  world.front.splice(0, 1);
  await clock.run(watching);
  t.match(steps, [
    { sessions: 2, streams: 2, done: false },
    { sessions: 1, done: false },
    { sessions: 0, done: true, timedOut: false },
  ]);
  await clock.advance(seconds(1));
  t.same(world.events, ['drain-started', 'drain-ended']);
  drain.stop();
});

t.test('the time is over before everybody has gone, or nobody listens any more: it goes on draining', async (t) => {
  const { world, drain, clock } = drained({ front: fronts(1) });
  await clock.run(drain.begin({ force: false }));
  const last = async (signal: AbortSignal) => {
    let step: unknown;
    for await (const one of drain.watch(seconds(5), signal)) step = one;
    return step;
  };
  t.match(await clock.run(last(new AbortController().signal)), { sessions: 1, done: false, timedOut: true });
  const interrupted = new AbortController();
  const watching = last(interrupted.signal);
  await clock.advance(seconds(1));
  interrupted.abort();
  t.match(await clock.run(watching), { timedOut: false });
  t.ok(drain.draining);
  const asked = world.asked.length;
  await clock.advance(seconds(11));
  t.ok(world.asked.length > asked);
  drain.stop();
});

t.test('with nowhere to go it is refused, unless nobody waits for it', async (t) => {
  const { drain, clock } = drained({ front: fronts(1), elsewhere: false });
  await t.rejects(clock.run(drain.begin({ force: false })), { message: 'there is no other supernode to move to' });
  t.notOk(drain.draining);
  await clock.run(drain.begin({ force: true }));
  t.ok(drain.draining);
  drain.stop();
});

t.test('a supernode that is stopped waits no longer than it has to', async (t) => {
  const took = async (made: ReturnType<typeof drained>, limit = seconds(15)) => {
    const began = made.clock.monotonic();
    await made.clock.run(made.drain.leave(limit));
    made.drain.stop();
    return made.clock.monotonic() - began;
  };
  t.equal(await took(drained({})), 0, 'nobody uses it');
  t.equal(await took(drained({ front: fronts(1), elsewhere: false })), 0, 'there is no other');
  t.equal(await took(drained({ front: fronts(1) }), ms(0)), 0, 'it is not to wait');
  t.equal(Math.round((await took(drained({ front: fronts(1) }))) / 1_000), 15, 'nobody goes');

  const goes = drained({ front: fronts(1) });
  goes.clock.after(seconds(3), () => goes.world.front.splice(0));
  t.ok((await took(goes)) < 3_500);

  const alone = drained({ front: fronts(1) });
  alone.clock.after(seconds(1), () => {
    alone.world.elsewhere = false;
  });
  t.ok((await took(alone)) < 3_500, 'the last other one ends too');

  const exits = drained({});
  exits.world.exits.add(EXIT);
  t.ok((await took(exits)) < 2_500, 'exits get the time to be found elsewhere');
});

t.test('peers without sessions that stay are sent away', async (t) => {
  const { world, drain, clock } = drained({ front: fronts(1) });
  world.idle.add(client(8));
  world.exits.add(EXIT);
  await clock.run(drain.begin({ force: false }));
  await clock.advance(seconds(9));
  t.same(world.dismissed, []);
  await clock.advance(seconds(3));
  t.same([...world.dismissed].sort(), [client(8), EXIT].sort());
  t.match(drain.refusal(), { code: 'draining', retryable: true, details: { next: '198.51.100.2:443' } });
  t.ok(drain.takes({ id: client(0), role: 'client' } as ConnectedPeer), 'who has a session may come back');
  t.notOk(drain.takes({ id: client(8), role: 'client' } as ConnectedPeer));
  drain.stop();
});
