import t from 'tap';
import { makeAuthRequest } from '../../src/core/auth.js';
import { newCommand, newSessionId } from '../../src/core/commands.js';
import { newTokenSecret } from '../../src/identity/secret.js';
import { openSodium } from '../../src/identity/sodium.js';
import { type Bytes, fromHex } from '../../src/model/bytes.js';
import type { Region } from '../../src/model/role.js';
import { instantOf, seconds } from '../../src/model/time.js';
import { overlayWorld } from '../support/overlay-world.js';

const { crypto, random } = await openSodium();
const MANY = 1_000_000;

/** How many of so many values came more than once, looking at 8 bytes of each: chance has one in 30 million. */
function repeats(count: number, make: (n: number) => Bytes): number {
  const seen = new BigUint64Array(count);
  for (let n = 0; n < count; n++) {
    const bytes = make(n);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    seen[n] = view.getBigUint64(0) ^ view.getBigUint64(bytes.length - 8);
  }
  seen.sort();
  let repeated = 0;
  for (let n = 1; n < count; n++) if (seen[n] === seen[n - 1]) repeated++;
  return repeated;
}

const bytesOf = (hex: string): Bytes => fromHex(hex) ?? new Uint8Array();

t.test('secrets, sessions and commands: none comes twice', async (t) => {
  t.equal(
    repeats(MANY / 10, () => newTokenSecret(random)),
    0,
    'secrets of join tokens',
  );
  t.equal(
    repeats(MANY / 10, () => bytesOf(newSessionId(random))),
    0,
    'sessions',
  );
  const desired = { kind: 'disconnect', reason: '' } as const;
  const session = newSessionId(random);
  t.equal(
    repeats(MANY / 10, () => bytesOf(newCommand(random, session, 1, seconds(1), desired).id)),
    0,
    'commands',
  );
});

t.test('a million challenges: none comes twice', async (t) => {
  const challenge = () => random.bytes(32);
  t.equal(repeats(MANY, challenge), 0);
});

t.test('the answers to a challenge: no nonce comes twice', async (t) => {
  const identity = { ...crypto.newIdentity().identity, sign: () => new Uint8Array(64) };
  const self = {
    membership: { body: new Uint8Array(), signature: new Uint8Array() },
    role: 'client',
    region: 'eu' as Region,
    wireguardKey: undefined,
    capabilities: {
      software: '',
      ipv6: true,
      publicEndpoint: undefined,
      country: undefined,
      maxMbps: 0,
      sessionCapacity: 0,
    },
    sessions: [],
    supernode: undefined,
  } as const;
  const server = { id: undefined, challenge: new Uint8Array(32), serverKeyHash: new Uint8Array(32) };
  const nonces = () => makeAuthRequest(identity, self, server, instantOf(1), random).clientNonce;
  t.equal(repeats(MANY / 100, nonces), 0);
});

t.test('encapsulated to one key again and again: never the same secret, nor the same ciphertext', async (t) => {
  const { publicKey } = crypto.kemKeyPair();
  const made = Array.from({ length: 64 }, () => {
    const out = crypto.kemEncapsulate(publicKey);
    if (out === undefined) throw new Error('the key is not taken');
    return out;
  });
  t.equal(
    repeats(made.length, (n) => made[n]?.sharedSecret ?? new Uint8Array(32)),
    0,
  );
  t.equal(
    repeats(made.length, (n) => made[n]?.ciphertext ?? new Uint8Array(32)),
    0,
  );
  const pairs = Array.from({ length: 64 }, () => crypto.wireGuardKeyPair());
  t.equal(new Set(pairs.map(({ privateKey }) => privateKey)).size, pairs.length, 'WireGuard keys');
  t.equal(new Set(Array.from({ length: 64 }, () => crypto.newIdentity().identity.id)).size, 64, 'identities');
});

t.test('each stream has a challenge and a probe token of its own, and each tunnel its own keys', async (t) => {
  const drawn = new Map<number, Set<string>>();
  let draws = 0;
  const keys: string[] = [];
  const world = await overlayWorld({
    ports: (_machine, ports) => ({
      ...ports,
      random: {
        fraction: () => ports.random.fraction(),
        bytes: (length) => {
          const bytes = ports.random.bytes(length);
          const known = drawn.get(length) ?? new Set();
          drawn.set(length, known.add(Buffer.from(bytes).toString('hex')));
          draws++;
          return bytes;
        },
      },
      crypto: {
        ...ports.crypto,
        wireGuardKeyPair: () => {
          const pair = ports.crypto.wireGuardKeyPair();
          keys.push(pair.privateKey);
          return pair;
        },
      },
    }),
  });
  const offered = new Set<string>();
  for (let round = 0; round < 5; round++) {
    await world.up('c0', {});
    for (const { sessionId } of await world.sessions('c0')) offered.add(sessionId ?? '');
    await world.down('c0');
    await world.restart('a');
    await world.advance(40_000);
  }
  t.equal(offered.size, 5, 'sessions');
  t.ok(keys.length >= 5);
  t.equal(new Set(keys).size, keys.length, 'the client’s keys');
  t.ok(draws > 20);
  t.equal(
    [...drawn.values()].reduce((sum, { size }) => sum + size, 0),
    draws,
    'nothing that was drawn came twice',
  );
});
