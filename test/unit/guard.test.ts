import t from 'tap';
import type { IpAddress } from '../../src/model/address.js';
import { seconds } from '../../src/model/time.js';
import { FairPlaces } from '../../src/transport/fair-places.js';
import {
  ConnectionGuard,
  GUARD_LIMITS,
  LOOK,
  OTHERS_AT_LEISURE,
  type Watched,
} from '../../src/transport/grpc/guard.js';
import { testMetrics } from '../support/test-metrics.js';
import { VirtualClock } from '../support/virtual-clock.js';

/** A guard in virtual time, and connections whose wires are numbers. */
function guarded(more: Partial<ConstructorParameters<typeof ConnectionGuard>[1]> = {}) {
  const clock = new VirtualClock();
  const metrics = testMetrics();
  const guard = new ConnectionGuard(GUARD_LIMITS, { clock, refused: metrics.connectionsRefused, ...more });
  const enter = (ip: string) => {
    const wire = {
      bytesRead: 0,
      bytesWritten: 0,
      isCut: false,
      pings: 0,
      ping: () => {
        wire.pings++;
      },
      cut: () => {
        wire.isCut = true;
      },
    };
    const watched = guard.allows(ip as IpAddress) ? guard.watch(ip as IpAddress, wire) : undefined;
    return { wire, watched: watched as Watched, isIn: watched !== undefined };
  };
  const pass = async (time: number) => {
    for (let passed = 0; passed < time; passed += LOOK) {
      await clock.advance(LOOK);
      guard.look();
    }
  };
  return {
    clock,
    guard,
    enter,
    pass,
    refused: (reason: string) => metrics.value(`connectionsRefused{reason=${reason}}`),
  };
}

t.test('row 21: one sender gets so many connections and no more, before TLS; an IPv6 /64 is one sender', async (t) => {
  const { enter, clock, refused } = guarded();
  const { burst } = GUARD_LIMITS.connections;
  for (const address of [() => '198.51.100.9', (i: number) => `2001:db8::${(i % 4_000).toString(16)}`]) {
    const let_in = Array.from({ length: 1_000 }, (_, i) => enter(address(i)).isIn).filter((isIn) => isIn).length;
    t.equal(let_in, burst);
  }
  t.equal(refused('address-rate'), 2 * (1_000 - burst));
  t.ok(enter('198.51.100.10').isIn, 'its neighbour comes in');
  t.ok(enter('2001:db8:0:1::1').isIn, 'as does the next /64');
  await clock.advance(60_000);
  t.ok(enter('198.51.100.9').isIn, 'and after a while it may again');
});

t.test('row 21: strangers’ places are bounded, and a newcomer gets one beside any flood', async (t) => {
  const { enter, guard, clock, refused } = guarded();
  const { all, perAddress } = GUARD_LIMITS.strangers;
  const flood = [];
  for (let i = 0; i < 40; i++) {
    for (let n = 0; n < 100; n++) flood.push(enter(`198.51.${i}.1`));
  }
  t.equal(guard.strangers, all);
  const honest = enter('203.0.113.5');
  t.equal(guard.strangers, all);
  for (let i = 40; i < 60; i++) for (let n = 0; n < 100; n++) enter(`198.51.${i}.1`);
  t.notOk(honest.wire.isCut, 'with one connection it is never the largest');
  honest.watched.admitted('peer');
  await clock.advance(1);
  const neighbour = Array.from({ length: perAddress + 5 }, () => enter('203.0.113.7'));
  t.ok(neighbour[0]?.wire.isCut, 'of one sender the oldest makes room');
  t.notOk(neighbour.at(-1)?.wire.isCut);
  t.ok(refused('crowded') > 0);
  t.notOk(honest.wire.isCut, 'who is known takes no place');
});

t.test('a stranger has its time, however busy it is; who is known has all the time there is', async (t) => {
  const { enter, pass, refused } = guarded();
  const slow = enter('198.51.100.9');
  const busy = enter('198.51.100.10');
  const peer = enter('198.51.100.11');
  const supernode = enter('198.51.100.12');
  peer.watched.admitted('peer');
  supernode.watched.admitted('supernode');
  for (let i = 0; i < 14; i++) {
    busy.wire.bytesRead += 100;
    busy.watched.heard(50);
    await pass(2_000);
  }
  t.notOk(slow.wire.isCut);
  await pass(3_000);
  t.same([slow.wire.isCut, busy.wire.isCut, peer.wire.isCut, supernode.wire.isCut], [true, true, false, false]);
  t.equal(refused('stranger'), 2);
  peer.watched.dismissed();
  supernode.watched.dismissed();
  await pass(GUARD_LIMITS.strangerTime + 1_000);
  t.ok(peer.wire.isCut, 'whose stream ended is a stranger again');
  t.notOk(supernode.wire.isCut, 'a certificate stays');
  supernode.watched.finished();
  await pass(GUARD_LIMITS.strangerTime + 1_000);
  t.ok(supernode.wire.isCut, 'but not over the end of HTTP/2');
});

t.test('row 27: bytes that bring no message end a connection, of strangers and of peers', async (t) => {
  const { enter, pass, refused } = guarded();
  for (const standing of ['stranger', 'peer', 'supernode'] as const) {
    const flood = enter('198.51.100.9');
    if (standing !== 'stranger') flood.watched.admitted(standing);
    const before = refused('noise');
    let sent = 0;
    while (!flood.wire.isCut && sent < 4_000_000) {
      flood.wire.bytesRead += 64 * 1024;
      sent += 64 * 1024;
      await pass(LOOK);
    }
    t.ok(sent <= 9 * 64 * 1024, `${standing}: cut after ${sent / 1024} KB`);
    t.equal(refused('noise'), before + 1);
  }
  const trickle = enter('198.51.100.20');
  trickle.watched.admitted('peer');
  for (let s = 0; s < 600 && !trickle.wire.isCut; s++) {
    trickle.wire.bytesRead += 6 * 1024;
    await pass(1_000);
  }
  t.ok(trickle.wire.isCut, 'a little more than it may, for long enough, too');
});

t.test('row 27: at leisure peers are looked at in turn, and a flood still ends its own connection', async (t) => {
  let isBusy = false;
  const { enter, pass } = guarded({ isBusy: () => isBusy });
  const peers = Array.from({ length: 100 }, (_, i) => enter(`198.51.100.${i}`));
  for (const { watched } of peers) watched.admitted('peer');
  const flood = () => {
    for (const { wire } of peers.slice(0, 50)) wire.bytesRead += 2_000_000;
  };
  flood();
  await pass(LOOK);
  const cut = () => peers.filter(({ wire }) => wire.isCut).length;
  t.ok(cut() > 0 && cut() < 10, 'a few of them');
  await pass(LOOK * OTHERS_AT_LEISURE * 2);
  t.equal(cut(), 50);
  flood();
  isBusy = true;
  for (const { wire } of peers.slice(50)) wire.bytesRead += 2_000_000;
  await pass(1_000);
  t.equal(cut(), 100, 'all within a second where there is much to do');
});

t.test('a connection that nothing comes from is asked once, and cut without an answer', async (t) => {
  const keepalive = { every: seconds(20), patience: seconds(10) };
  const { enter, pass, clock } = guarded({ isBusy: () => false, keepalive });
  const [quiet, answering, chatting, resting] = ['1', '2', '3', '4'].map((n) => enter(`198.51.100.${n}`));
  if (!quiet || !answering || !chatting || !resting) throw new Error('not let in');
  for (const { watched } of [quiet, answering, chatting, resting]) watched.admitted('peer');
  for (let s = 0; s < 28; s++) {
    await pass(1_000);
    chatting.wire.bytesRead += 10;
    answering.wire.bytesRead += answering.wire.pings * 20;
  }
  t.same([quiet.wire.pings, answering.wire.pings, chatting.wire.pings], [1, 1, 0]);
  t.same([quiet.wire.isCut, answering.wire.isCut], [false, false]);
  resting.wire.bytesRead += 1;
  await pass(14_000);
  t.same([quiet.wire.isCut, answering.wire.isCut, chatting.wire.isCut], [true, false, false]);
  t.equal(quiet.wire.pings, 1);

  await pass(10_000);
  await clock.advance(60_000);
  const before = resting.wire.pings;
  await pass(LOOK);
  t.notOk(resting.wire.isCut, 'a process that stood still has not read yet what came meanwhile');
  t.equal(before, 2);
});

t.test('row 27: hours of good behaviour buy no flood', async (t) => {
  const { enter, pass } = guarded();
  const patient = enter('198.51.100.9');
  patient.watched.admitted('peer');
  await pass(3_600_000);
  patient.wire.bytesRead += 400 * 1024;
  await pass(1_000);
  t.ok(patient.wire.isCut);
});

t.test(
  'honest peers make next to no noise: heartbeats, large messages in parts, a session inside the stream',
  async (t) => {
    const { enter, pass } = guarded();
    const peer = enter('198.51.100.9');
    // The largest message there is comes slowly, before anybody knows who sends it.
    for (let part = 0; part < 26; part++) {
      peer.wire.bytesRead += 10_000;
      await pass(LOOK);
    }
    t.notOk(peer.wire.isCut);
    peer.watched.heard(256 * 1024);
    peer.watched.admitted('peer');
    for (let s = 0; s < 600; s++) {
      peer.wire.bytesRead += 48;
      peer.watched.heard(4);
      if (s % 20 === 0) peer.wire.bytesRead += 39;
      await pass(1_000);
    }
    // 50 Mbit/s down, with a new window for every 32 KB, and 10 Mbit/s up.
    for (let s = 0; s < 60; s++) {
      peer.wire.bytesWritten += 6_250_000;
      peer.wire.bytesRead += (6_250_000 / 32_768) * 2 * 48;
      for (let n = 0; n < 100; n++) {
        peer.wire.bytesRead += 12_500 + 60;
        peer.watched.heard(12_500);
      }
      await pass(1_000);
    }
    t.notOk(peer.wire.isCut);
  },
);

t.test('row 27: streams that are opened are counted; a supernode may make many calls', async (t) => {
  const { enter, clock, refused } = guarded();
  const reset = enter('198.51.100.9');
  for (let n = 0; n < GUARD_LIMITS.streams.burst; n++) reset.watched.opened();
  t.notOk(reset.wire.isCut);
  reset.watched.opened();
  t.ok(reset.wire.isCut);
  t.equal(refused('streams'), 1);
  const supernode = enter('198.51.100.10');
  supernode.watched.admitted('supernode');
  for (let n = 0; n < 1_500; n++) supernode.watched.opened();
  t.notOk(supernode.wire.isCut);
  const tool = enter('198.51.100.11');
  for (let n = 0; n < 200; n++) {
    tool.watched.opened();
    await clock.advance(300);
  }
  t.notOk(tool.wire.isCut, 'three a second go on for ever');
});

t.test('row 27: a flood costs its sender connections, also one that HTTP/2 found', async (t) => {
  const { enter, refused } = guarded();
  for (let n = 0; n < 11; n++) {
    const { watched } = enter('198.51.100.9');
    watched.left();
    watched.broke();
    watched.broke();
  }
  t.equal(refused('protocol'), 11, 'each counted once, though the connection was gone already');
  t.notOk(enter('198.51.100.9').isIn, 'a twelfth connection is one too many');
  t.ok(enter('198.51.100.10').isIn);
});

t.test('row 28: what a peer sends faster than it may has to wait', async (t) => {
  const { enter, clock } = guarded();
  const { watched } = enter('198.51.100.9');
  watched.admitted('peer');
  let read = 0;
  const from = clock.monotonic();
  while (clock.monotonic() - from < seconds(10)) {
    const pause = watched.heard(60_000);
    read += 60_000;
    await clock.advance(Math.max(pause, 0.1));
  }
  const { perSecond, burst } = GUARD_LIMITS.messages;
  t.ok(read <= perSecond * 10 + burst + 60_000, `${read} bytes in ten seconds`);
  t.ok(read >= perSecond * 9, 'and no less than it may');
});

t.test('places: nobody is pushed out while there is room, and a place is given back once', async (t) => {
  const places = new FairPlaces<string>({ all: 3, perSender: 2 });
  t.equal(places.enter('x', 'x1'), undefined);
  t.equal(places.enter('x', 'x2'), undefined);
  t.equal(places.enter('x', 'x3'), 'x1');
  t.equal(places.enter('y', 'y1'), undefined);
  t.equal(places.enter('z', 'z1'), 'x2', 'of the sender with most');
  t.equal(places.size, 3);
  places.leave('x', 'x1');
  places.leave('nobody', 'x1');
  t.equal(places.size, 3);
  places.leave('y', 'y1');
  t.equal(places.enter('y', 'y2'), undefined);
});
