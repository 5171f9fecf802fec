import t from 'tap';
import { limitKey, RateLimiter } from '../../src/core/rate-limit.js';
import { type IpAddress, parseIp } from '../../src/model/address.js';
import { VirtualClock } from '../support/virtual-clock.js';

const ip = (text: string): IpAddress => {
  const parsed = parseIp(text);
  if (!parsed.ok) throw new Error(text);
  return parsed.value;
};

t.test('a burst is let through, then only the sustained rate', async (t) => {
  const clock = new VirtualClock();
  const limiter = new RateLimiter({ perMinute: 6, burst: 3, maxKeys: 100 }, clock);
  t.same(
    [1, 2, 3, 4].map(() => limiter.allow('a')),
    [true, true, true, false],
  );
  t.ok(limiter.allow('b'), 'another key is not concerned');

  await clock.advance(9_999);
  t.notOk(limiter.allow('a'), 'one slot in ten seconds, and they are not over');
  await clock.advance(1);
  t.same([limiter.allow('a'), limiter.allow('a')], [true, false]);

  await clock.advance(60_000);
  t.same(
    [1, 2, 3, 4].map(() => limiter.allow('a')),
    [true, true, true, false],
    'a pause refills the burst, no more',
  );
});

t.test('refused attempts do not prolong the refusal', async (t) => {
  const clock = new VirtualClock();
  const limiter = new RateLimiter({ perMinute: 60, burst: 1, maxKeys: 100 }, clock);
  limiter.allow('a');
  for (let i = 0; i < 50; i++) t.notOk(limiter.allow('a'));
  await clock.advance(1_000);
  t.ok(limiter.allow('a'));
});

t.test('memory stays bounded under a flood of keys, and a busy key stays limited', async (t) => {
  const limiter = new RateLimiter({ perMinute: 1, burst: 1, maxKeys: 50 }, new VirtualClock());
  t.ok(limiter.allow('busy'));
  for (let i = 0; i < 10_000; i++) {
    limiter.allow(`stranger ${i}`);
    if (i % 20 === 0 && limiter.allow('busy')) t.fail('the flood gave the busy key a fresh bucket');
  }
  t.equal(limiter.size, 50);
});

t.test('one customer is one key', async (t) => {
  t.equal(limitKey(ip('203.0.113.7')), '203.0.113.7');
  t.equal(limitKey(ip('::ffff:203.0.113.7')), '203.0.113.7');
  t.equal(limitKey(ip('2001:db8:1:2:3::4')), limitKey(ip('2001:db8:1:2:ffff::1')));
  t.not(limitKey(ip('2001:db8:1:2::1')), limitKey(ip('2001:db8:1:3::1')));
});
