import t from 'tap';
import { makeAuthRequest } from '../../src/core/auth.js';
import { days, instantOf, type Millis, minutes } from '../../src/model/time.js';
import { baseWorld } from '../support/base-world.js';
import { streamWorld } from '../support/stream-world.js';

/** A clock that was ten years ahead, and is right again: whoever had it is as good as before. Time bounds freshness only. */

t.test('enrolment and renewal, before and after', async (t) => {
  const world = await baseWorld();
  const { token } = await world.tokenText('exit', { uses: 3 });
  const node = world.identity();
  for (const ahead of [days(3650), minutes(6)])
    await t.rejects(world.register(world.registration(node, token, { ahead })), { code: 'clock-skew' });
  await world.register(world.registration(node, token, { ahead: minutes(5) }));
  await t.rejects(world.renew(world.renewal(node, { ahead: days(3650) })), { code: 'clock-skew' });
  for (const ahead of [minutes(5), 0, -minutes(5), minutes(4)]) t.ok(await world.renew(world.renewal(node, { ahead })));
});

t.test('streams: refused while it is wrong, let in as soon as it is right, however late it was', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const exit = world.node('exit');
  const join = async (ahead: Millis | number) => {
    const { cable, challenge } = supervisor.open();
    const seen = { id: supervisor.self, challenge, serverKeyHash: world.serverKeyHash };
    const now = instantOf(world.clock.now() + ahead);
    cable.peer.send(makeAuthRequest(exit.identity, exit.self, seen, now, world.random));
    await world.clock.advance(100);
    return cable.endOf('peer')?.error?.code ?? 'in';
  };
  t.equal(await join(days(3650)), 'clock-skew');
  t.equal(await join(minutes(5) - 200), 'in');
  t.equal(await join(0), 'in', 'nothing it said with the wrong clock counts against it');
  t.equal(await join(-minutes(4)), 'in');
  t.equal(await join(-days(3650)), 'clock-skew');
  await world.clock.advance(minutes(5));
  t.equal(await join(0), 'in');
  t.equal(supervisor.manager.count(), 1);
});
