import t from 'tap';
import { ms, seconds } from '../../src/model/time.js';
import { WaitingRoom, type WaitingRoomLimits } from '../../src/transport/grpc/waiting-room.js';
import { VirtualClock } from '../support/virtual-clock.js';

function room(limits: Partial<WaitingRoomLimits> = {}) {
  const clock = new VirtualClock();
  const letIn: string[] = [];
  const turnedAway: string[] = [];
  const tasks: (() => void)[] = [];
  const waiting = new WaitingRoom<string>(
    { all: 6, perSender: 3, perTurn: 2, patience: seconds(10), ...limits },
    {
      clock,
      letIn: (one) => letIn.push(one),
      turnAway: (one) => turnedAway.push(one),
      later: (task) => tasks.push(task),
    },
  );
  const turn = () => {
    for (const task of tasks.splice(0)) task();
  };
  const come = (...all: string[]) => {
    for (const one of all) waiting.enter(one.slice(0, 1), one);
  };
  return { waiting, clock, letIn, turnedAway, turn, come };
}

t.test('a connection that comes alone does not wait', async (t) => {
  const { letIn, turn, come } = room();
  come('a1');
  t.same(letIn, ['a1']);
  turn();
  come('b1', 'c1');
  t.same(letIn, ['a1', 'b1', 'c1']);
});

t.test('of many at once so many are let in within a turn, one sender after the other', async (t) => {
  const { waiting, letIn, turn, come } = room();
  come('a1', 'a2', 'a3', 'a4', 'a5', 'b1', 'c1');
  t.same(letIn, ['a1', 'a2']);
  t.equal(waiting.size, 5);
  turn();
  t.same(letIn.slice(2), ['a3', 'b1']);
  come('d1');
  t.equal(letIn.length, 4, 'a newcomer does not pass those who wait');
  turn();
  turn();
  t.same(letIn.slice(4), ['c1', 'a4', 'd1', 'a5']);
  turn();
  t.equal(waiting.size, 0);
});

t.test('a sender has so many places, and a full room turns away the newest of who has most', async (t) => {
  const { waiting, turnedAway, turn, come, letIn } = room();
  come('x1', 'x2', 'a1', 'a2', 'a3', 'a4');
  t.same(turnedAway, ['a4']);
  come('b1', 'b2', 'b3');
  t.equal(waiting.size, 6);
  come('c1');
  t.same(turnedAway, ['a4', 'a3']);
  come('d1');
  t.same(turnedAway, ['a4', 'a3', 'b3']);
  come('a9', 'd2');
  t.same(turnedAway.slice(3), ['a9', 'd2'], 'where all have the same it is the newcomer');
  for (let i = 0; i < 3; i++) turn();
  t.same(letIn.slice(2), ['a1', 'b1', 'c1', 'd1', 'a2', 'b2']);
});

t.test('who waited for longer than anybody would is not begun with', async (t) => {
  const { letIn, turnedAway, turn, come, clock } = room();
  come('a1', 'a2', 'a3');
  await clock.advance(9_000);
  come('b1');
  await clock.advance(ms(1_001));
  turn();
  t.same(letIn, ['a1', 'a2', 'b1']);
  t.same(turnedAway, ['a3']);
});

t.test('a room that closes turns everybody away', async (t) => {
  const { waiting, turnedAway, turn, come, letIn } = room();
  come('a1', 'a2', 'a3', 'b1');
  waiting.close();
  turn();
  t.same(turnedAway, ['a3', 'b1']);
  t.equal(letIn.length, 2);
});
