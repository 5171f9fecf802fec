import fc from 'fast-check';
import t from 'tap';
import { InnerAddressPool } from '../../src/core/addresses.js';
import { SlotPool } from '../../src/core/pool.js';
import type { Cidr, IpAddress } from '../../src/model/address.js';
import type { AddressPlan } from '../../src/model/messages.js';
import { instantOf, seconds } from '../../src/model/time.js';

const plan = (...blocks: string[]): AddressPlan => ({
  blocksIpv4: blocks as Cidr[],
  blocksIpv6: blocks.map((_, i) => `fd76:706e:6400:${i + 1}::/64` as Cidr),
  gatewayIpv4: '10.200.0.1' as IpAddress,
  gatewayIpv6: 'fd76:706e:6400::1' as IpAddress,
  poolIpv4: '10.200.0.0/13' as Cidr,
  poolIpv6: 'fd76:706e:6400::/48' as Cidr,
});

t.test('a slot that was given back rests before anybody gets it again', async (t) => {
  const pool = new SlotPool(1, seconds(120));
  t.equal(pool.take(instantOf(0)), 0);
  t.equal(pool.take(instantOf(0)), undefined, 'it has one owner');
  pool.give(0, instantOf(1_000));
  t.equal(pool.take(instantOf(120_999)), undefined, 'still resting');
  t.equal(pool.take(instantOf(121_000)), 0);
});

t.test('a slot that a durable record owns is never handed out', async (t) => {
  const pool = new SlotPool(3, seconds(1));
  t.ok(pool.claim(1));
  t.notOk(pool.claim(1), 'nobody else may claim it');
  t.same([pool.take(instantOf(0)), pool.take(instantOf(0)), pool.take(instantOf(0))], [0, 2, undefined]);
});

t.test('whatever is taken, given and claimed, a slot has at most one owner', async () => {
  fc.assert(
    fc.property(fc.array(fc.record({ what: fc.constantFrom('take', 'give', 'claim'), slot: fc.nat(9) })), (steps) => {
      const pool = new SlotPool(10, seconds(3));
      const owned = new Set<number>();
      let now = 0;
      for (const { what, slot } of steps) {
        now += 1_000;
        if (what === 'take') {
          const got = pool.take(instantOf(now));
          if (got === undefined) continue;
          if (owned.has(got)) throw new Error(`slot ${got} was handed out twice`);
          owned.add(got);
        } else if (what === 'give') {
          pool.give(slot, instantOf(now));
          owned.delete(slot);
        } else if (pool.claim(slot)) {
          if (owned.has(slot)) throw new Error(`slot ${slot} was claimed from its owner`);
          owned.add(slot);
        }
      }
      return pool.taken === owned.size;
    }),
  );
});

t.test('inner addresses come in pairs out of the leased blocks, the next block after the first is full', async (t) => {
  const pool = new InnerAddressPool(seconds(300));
  t.equal(pool.take(instantOf(0)), undefined, 'none without a lease');
  pool.usePlan(plan('10.200.4.0/30', '10.200.8.0/30'));
  const got = Array.from({ length: 5 }, () => pool.take(instantOf(0)));
  t.same(
    got.map((one) => one && [one.ipv4, one.ipv6]),
    [
      ['10.200.4.1', 'fd76:706e:6400:1::1'],
      ['10.200.4.2', 'fd76:706e:6400:1::2'],
      ['10.200.8.1', 'fd76:706e:6400:2::1'],
      ['10.200.8.2', 'fd76:706e:6400:2::2'],
      undefined,
    ],
  );
  pool.give('10.200.4.2' as IpAddress, instantOf(0));
  t.equal(pool.take(instantOf(299_999)), undefined, 'quarantined');
  t.equal(pool.take(instantOf(300_000))?.ipv4, '10.200.4.2');
});

t.test('a block leased later adds addresses and moves none', async (t) => {
  const pool = new InnerAddressPool(seconds(1));
  pool.usePlan(plan('10.200.4.0/30'));
  t.ok(pool.claim('10.200.4.1' as IpAddress));
  t.notOk(pool.claim('10.99.0.1' as IpAddress), 'a foreign address cannot be claimed');
  pool.usePlan(plan('10.200.4.0/30', '10.200.8.0/30'));
  t.same(
    [1, 2, 3, 4].map(() => pool.take(instantOf(0))?.ipv4),
    ['10.200.4.2', '10.200.8.1', '10.200.8.2', undefined],
  );
});
