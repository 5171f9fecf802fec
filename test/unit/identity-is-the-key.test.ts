import { create } from '@bufbuild/protobuf';
import t from 'tap';
import type { Identity } from '../../src/core/ports/crypto.js';
import { limitKey } from '../../src/core/rate-limit.js';
import { RevokeMemberRequestSchema } from '../../src/gen/vpnd/v1/admin_pb.js';
import { openSodium } from '../../src/identity/sodium.js';
import { statements as openStatements } from '../../src/identity/statements.js';
import type { IpAddress } from '../../src/model/address.js';
import { fromBase32, toBase32 } from '../../src/model/bytes.js';
import { keyOf, type PeerId, parsePeerId, peerIdOf } from '../../src/model/ids.js';
import type { Region } from '../../src/model/role.js';
import { instantOf, minutes } from '../../src/model/time.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { PeerIndex } from '../../src/transport/streams/peer-index.js';
import { baseWorld } from '../support/base-world.js';

const { crypto, random } = await openSodium();

const idOf = (key: Uint8Array): PeerId => {
  const id = peerIdOf(key);
  if (!id.ok) throw new Error(id.error);
  return id.value;
};

/** A key and all those that differ from it in one bit. */
function family(): { readonly key: Uint8Array; readonly others: readonly Uint8Array[] } {
  const key = random.bytes(32);
  const others = Array.from({ length: 256 }, (_, bit) => {
    const other = key.slice();
    other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    return other;
  });
  return { key, others };
}

t.test('an id is the whole key: keys that differ in one bit, wherever, are two nodes', async (t) => {
  const { key, others } = family();
  t.strictSame(keyOf(idOf(key)), key);
  for (const other of others) {
    t.not(idOf(other), idOf(key));
    t.strictSame(keyOf(idOf(other)), other, 'and the key can be read from the id, so that nothing stands between them');
  }
  for (const length of [0, 16, 20, 31, 33, 64]) t.notOk(peerIdOf(new Uint8Array(length)).ok, `${length} bytes`);
});

t.test('there is one text for a key', async (t) => {
  const { key } = family();
  const id = idOf(key);
  t.same(parsePeerId(id), { ok: true, value: id });
  for (const text of [id.toUpperCase(), `${id}a`, `${id}=`, ` ${id}`, id.slice(1), id.slice(0, -1), `a${id.slice(1)}a`])
    t.notOk(parsePeerId(text).ok, text);
  const endings = [...'abcdefghijklmnopqrstuvwxyz234567'].filter((last) => parsePeerId(id.slice(0, 51) + last).ok);
  t.equal(endings.length, 2, 'of its last letter one bit counts, and the rest has to be nothing');
  for (const last of endings)
    t.equal(toBase32(fromBase32(id.slice(0, 51) + last) ?? new Uint8Array()), id.slice(0, 51) + last);
});

t.test('nodes that look alike are kept apart wherever they are looked up', async (t) => {
  const { key, others } = family();
  const [id, ...alike] = [key, ...others].map(idOf);
  if (id === undefined) throw new Error('there is one');
  const index = new PeerIndex<string>();
  index.put(id, 'exit', 'the first');
  for (const other of alike) {
    t.equal(index.get(other), undefined, 'no stream of another one');
    index.remove(other);
  }
  t.equal(index.get(id), 'the first');

  const store = openMemoryStore();
  await store.directory.revoke({ peer: id, kind: 'peer', at: instantOf(1), reason: '' });
  for (const other of alike.slice(0, 16))
    t.equal(await store.directory.revoke({ peer: other, kind: 'peer', at: instantOf(2), reason: '' }), true);
  await store.directory.unrevoke(id, instantOf(3));
  t.equal((await store.directory.revocations()).revoked.length, 16, 'one let in again is one');
});

t.test('a membership is of the key that it names, and of none that looks like it', async (t) => {
  const base = crypto.newIdentity().identity;
  const statements = openStatements(crypto);
  const { identity } = crypto.newIdentity();
  const [now, later] = [instantOf(minutes(1)), instantOf(minutes(60))];
  const signed = statements.signMembership(base, {
    peer: identity.id,
    roles: ['exit'],
    region: 'eu' as Region,
    pool: '',
    notBefore: instantOf(0),
    notAfter: later,
    epoch: 0,
  });
  t.match(statements.checkMembership(keyOf(base.id), signed, now), { ok: true, value: { peer: identity.id } });
  for (let bit = 0; bit < 256; bit += 7) {
    const other = keyOf(base.id).slice();
    other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    t.match(
      statements.checkMembership(other, signed, now),
      { ok: false },
      'nor is it signed by whoever looks like base',
    );
  }
  t.not(limitKey('2001:db8::1' as IpAddress), limitKey('2001:db8:0:1::1' as IpAddress));
});

t.test('the beginning of two ids is no id: nobody is shut out in the place of another one', async (t) => {
  const world = await baseWorld();
  const seen = new Map<string, Identity>();
  const alike = (): readonly [Identity, Identity] => {
    for (;;) {
      const one = world.identity();
      const other = seen.get(one.id.slice(0, 4));
      if (other !== undefined) return [other, one];
      seen.set(one.id.slice(0, 4), one);
    }
  };
  const both = alike();
  for (const identity of both) {
    const { token } = await world.tokenText('exit');
    await world.register(world.registration(identity, token));
  }
  const [{ id }, other] = both;
  const revoke = async (peer: string) => world.local.revokeMember?.(create(RevokeMemberRequestSchema, { peer }));
  await t.rejects(revoke(id.slice(0, 4)), { code: 'bad-config', message: /more than one/ });
  t.same((await world.store.directory.revocations()).revoked, []);
  t.match(await revoke(id), { peerId: id });
  await t.rejects(world.renew(world.renewal(both[0])), { code: 'revoked' });
  t.ok(await world.renew(world.renewal(other)), 'and the other one stays');
});
