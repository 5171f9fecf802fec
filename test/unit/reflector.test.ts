import t from 'tap';
import type { Identity } from '../../src/core/ports/crypto.js';
import { parseProbeResponse, probeRequest, vouchInput, vouchRequest } from '../../src/core/probe.js';
import { Reflector } from '../../src/roles/supernode/reflector.js';
import { endpoint } from '../support/fake-stream.js';
import { type StreamWorld, streamWorld } from '../support/stream-world.js';

/** A supernode with one exit connected from 198.51.100.7, as the stream world connects everybody. */
async function reflecting() {
  const world = streamWorld();
  const supernode = world.supervisor();
  const exit = world.node();
  await world.join(supernode, exit);
  const moved: string[] = [];
  const reflector = new Reflector({
    clock: world.clock,
    crypto: world.crypto,
    streams: () => supernode.manager,
    moved: (peer) => moved.push(peer.id),
  });
  const peer = () => {
    const found = supernode.manager.peer(exit.id);
    if (found === undefined) throw new Error('the exit has no stream');
    return found;
  };
  const question = (counter: number, by: Identity = exit.identity) => {
    const nonce = world.random.bytes(16);
    const signature = by.sign(vouchInput(peer().probeToken, nonce, counter));
    return vouchRequest(nonce, counter, exit.id, signature);
  };
  /** The rate limit lets two a second through, and this is not about it. */
  const send = async (datagram: Uint8Array, from: string) => {
    await world.clock.advance(1_000);
    return reflector.answer(datagram, endpoint(from)) !== undefined;
  };
  return {
    world: world as StreamWorld,
    supernode,
    exit,
    reflector,
    moved,
    peer,
    question,
    send,
    addresses: () => reflector.addressesOf(peer()),
  };
}

t.test('an address counts once its peer has signed for it', async (t) => {
  const { send, question, addresses, moved, world } = await reflecting();
  t.same(addresses(), ['198.51.100.7']);
  t.notOk(await send(question(1, world.identity()), '203.0.113.1:4000'), "not on somebody else's word");
  t.same(addresses(), ['198.51.100.7']);
  t.ok(await send(question(1), '203.0.113.1:4000'));
  t.same(addresses(), ['198.51.100.7', '203.0.113.1']);
  t.equal(moved.length, 1);
  t.ok(await send(question(2), '203.0.113.1:4001'));
  t.equal(moved.length, 1, 'the same address again is no news');
});

t.test('a copy of a vouch, sent from elsewhere, vouches for nobody', async (t) => {
  const { send, question, addresses, moved } = await reflecting();
  const heard = question(1);
  t.ok(await send(heard, '203.0.113.1:4000'));
  t.ok(await send(heard, '203.0.113.1:4000'), 'its answer was lost, so it came again');
  t.notOk(await send(heard, '192.0.2.66:6666'));
  for (let counter = 2; counter < 40; counter++) await send(question(counter), '203.0.113.1:4000');
  t.notOk(await send(heard, '192.0.2.66:6666'), 'nor much later');
  t.notOk(await send(heard, '203.0.113.1:4000'), 'too old to be told from a copy');
  t.same(addresses(), ['198.51.100.7', '203.0.113.1']);
  t.equal(moved.length, 1);
});

t.test('a NAT may change as often as it likes under one stream; old addresses stop counting', async (t) => {
  const { send, question, addresses, moved } = await reflecting();
  for (let counter = 1; counter <= 200; counter++) {
    t.ok(await send(question(counter), `203.0.113.${counter}:4000`), `change ${counter}`);
    t.ok(addresses().includes(`203.0.113.${counter}` as never));
    t.ok(addresses().length <= 17);
  }
  t.equal(moved.length, 200);
  t.notOk(addresses().includes('203.0.113.1' as never));
});

t.test('vouches that overtake each other all count', async (t) => {
  const { send, question, addresses } = await reflecting();
  const all = [1, 2, 3, 4, 5].map((counter) => question(counter));
  for (const [i, one] of [...all].reverse().entries()) t.ok(await send(one, `203.0.113.${i}:4000`));
  t.equal(addresses().length, 6);
});

t.test('a plain question is answered with what was seen, and vouches for nobody', async (t) => {
  const { reflector, addresses } = await reflecting();
  const nonce = new Uint8Array(16).fill(7);
  const answer = reflector.answer(probeRequest(nonce), endpoint('203.0.113.5:1234'));
  t.same(answer && parseProbeResponse(answer, nonce), endpoint('203.0.113.5:1234'));
  t.same(addresses(), ['198.51.100.7']);
});

t.test('many peers behind one address have a limit each, and a stranger none of theirs', async (t) => {
  const { reflector, question, world } = await reflecting();
  const from = endpoint('203.0.113.1:4000');
  const plain = () => reflector.answer(probeRequest(world.random.bytes(16)), from) !== undefined;
  const others = Array.from({ length: 100 }, plain).filter((answered) => answered);
  t.ok(others.length < 60, `${others.length} of a hundred strangers’ questions at once are answered`);
  t.ok(reflector.answer(question(1), from), 'and a peer is heard all the same');
  const own = Array.from({ length: 100 }, (_, i) => reflector.answer(question(i + 2), from) !== undefined);
  t.ok(own.filter((answered) => answered).length < 60, 'but not a hundred times at once either');
});

t.test('forged sources cost a bounded number of signature checks, and leave a peer’s own address alone', async (t) => {
  const { reflector, question, world } = await reflecting();
  const before = world.verified;
  const bad = question(1).fill(0, 61);
  for (let i = 0; i < 20_000; i++) {
    reflector.answer(bad, endpoint(`${1 + (i % 200)}.${i >> 8}.${i & 255}.9:4000`));
    if (i % 20 === 0) await world.clock.advance(1);
  }
  t.ok(world.verified - before <= 600, `${world.verified - before} of 20000 forged vouches in a second were looked at`);
  t.ok(reflector.answer(question(1), endpoint('198.51.100.7:5000')), 'from where it connects, a peer is heard');
});
