import t from 'tap';
import type { Command } from '../../src/model/command.js';
import type { SessionId } from '../../src/model/ids.js';
import { memberWorld } from '../support/member-world.js';

const SUPERNODES = { a: ['eu', 20], b: ['eu', 30] } as const;

t.test('UDP is vouched for when a line comes up, and whenever it is asked for, at most twice a second', async (t) => {
  const world = await memberWorld({ supernodes: SUPERNODES });
  const line = world.member.main();
  t.equal(await line.vouch(), false, 'there is no stream to vouch on');
  world.member.start();
  await world.advance(1_000);
  t.same(world.vouches, ['a']);
  t.equal(line.udp(), 'through');
  t.equal(world.member.udp(), 'through');

  for (let n = 0; n < 100; n++) {
    void line.vouch();
    await world.advance(10);
  }
  t.ok(world.vouches.length >= 3 && world.vouches.length <= 4, `${world.vouches.length - 1} in a second`);
  await world.advance(1_000);
  const before = world.vouches.length;
  const [one, other] = await world.clock.run(Promise.all([line.vouch(), line.vouch()]));
  t.same([one, other], [true, true]);
  t.equal(world.vouches.length, before + 1, 'who asks at one time shares the answer');
});

t.test('where UDP is blocked it is said once, tried again and again, and noticed when it works', async (t) => {
  const world = await memberWorld({ supernodes: SUPERNODES });
  world.state.udp = false;
  world.member.start();
  await world.advance(3_000);
  t.equal(world.member.udp(), 'blocked');
  t.equal(await world.clock.run(world.member.main().vouch()), false);
  await world.advance(120_000);
  const warnings = world.log.lines.filter(({ level }) => level === 'warn').map(({ text }) => text);
  t.equal(warnings.length, 1);
  t.match(warnings[0], /no UDP reaches supernode/);
  t.ok(world.vouches.length >= 5 && world.vouches.length < 10, `${world.vouches.length} in two minutes`);

  world.state.udp = true;
  await world.advance(25_000);
  t.equal(world.member.udp(), 'through');
  const count = world.vouches.length;
  await world.advance(600_000);
  t.equal(world.vouches.length, count, 'no session hangs on it, so nobody needs it');

  world.state.homes = ['a'];
  await world.advance(600_000);
  t.ok(world.vouches.length >= count + 4, 'with a session, the address is shown again every two minutes');
});

t.test('a line that rests while it waits to vouch leaves nothing behind', async (t) => {
  const world = await memberWorld({ supernodes: SUPERNODES });
  world.member.start();
  await world.advance(100);
  const waiting = world.member.main().vouch();
  await world.member.stop();
  t.equal(await waiting, false);
  await world.advance(5_000);
  t.equal(world.clock.pending, 0);
});

t.test('what a supernode sends arrives with its name, over either line', async (t) => {
  const got: string[] = [];
  const world = await memberWorld({
    supernodes: SUPERNODES,
    handlers: {
      command: async ({ session }, from) => {
        got.push(`command ${world.nameOf(from)} ${session}`);
        return { offer: undefined };
      },
      news: (news, from) => got.push(`news ${world.nameOf(from)} ${news.kind}`),
      datagrams: (session, packets, from) => got.push(`packets ${world.nameOf(from)} ${session} ${packets.length}`),
    },
  });
  world.state.homes = ['a', 'b'];
  world.member.start();
  await world.advance(3_000);
  const command: Command = world.command();
  const { session } = command;
  await world.clock.run(world.named('b').manager.command(world.id, command));
  world.send('a', { kind: 'event', news: { kind: 'problem', code: 'x', message: 'y' } });
  world.send('b', { kind: 'datagrams', session, packets: [Uint8Array.of(1), Uint8Array.of(2)] });
  await world.advance(100);
  t.same(got, [`command b ${session}`, 'news a problem', `packets b ${session} 2`]);
});

t.test('datagrams that the stream has no room for are dropped, and the stream goes on', async (t) => {
  const world = await memberWorld({ role: 'client', supernodes: SUPERNODES });
  const { upstream } = world.member;
  const session = 'ab'.repeat(16) as SessionId;
  const packets = [new Uint8Array(1_400)];
  t.equal(upstream.sendDatagrams(session, packets), 'closed');
  world.member.start();
  await world.advance(1_000);
  t.equal(upstream.sendDatagrams(session, packets), 'sent');
  const results = new Set(Array.from({ length: 1_000 }, () => upstream.sendDatagrams(session, packets)));
  t.same([...results], ['sent', 'overflow']);
  t.equal(upstream.tell({ kind: 'problem', code: 'x', message: 'still room for what matters' }), 'sent');
  await world.advance(60_000);
  t.ok(world.state.carried > 1 && world.state.carried < 1_000, `${world.state.carried} of 1001 have arrived`);
  t.same(world.at(), ['a', '-']);
  t.same(world.dials, ['a']);
});
