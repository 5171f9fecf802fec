import { applyChange, noRevocations, packRevocations, unpackRevocations } from '../../../src/core/revocations.js';
import { describeJoinToken, formatJoinToken, parseJoinToken } from '../../../src/identity/join-token.js';
import { openSodium } from '../../../src/identity/sodium.js';
import { statements as openStatements } from '../../../src/identity/statements.js';
import { parseHostPort, parseIp } from '../../../src/model/address.js';
import type { Anchors } from '../../../src/model/anchors.js';
import { fromBase32, signingInput, toBase32, utf8 } from '../../../src/model/bytes.js';
import type { VpndError } from '../../../src/model/errors.js';
import { keyOf, peerIdOf, sessionIdOf } from '../../../src/model/ids.js';
import { wireGuardPublicKeyOf } from '../../../src/model/keys.js';
import type { Membership, Signed } from '../../../src/model/membership.js';
import type { JoinToken } from '../../../src/model/messages.js';
import type { Offer } from '../../../src/model/offer.js';
import type { Result } from '../../../src/model/result.js';
import type { Revocation } from '../../../src/model/revocation.js';
import type { Region } from '../../../src/model/role.js';
import { instantOf } from '../../../src/model/time.js';
import { concat } from '../engine/mutate-bytes.js';
import { must, mustEqual, orRefusal } from '../engine/oracle.js';
import { Chance } from '../engine/random.js';
import { bytesOf, type Target, textOf } from '../engine/target.js';

const { crypto } = await openSodium();
const signed = openStatements(crypto);
const NOW = instantOf(Date.UTC(2026, 0, 1));
const own = crypto.identityFromSeed(new Chance(7).bytes(32));
const OWN_KEY = keyOf(own.id);

function valid<T>(result: Result<T, unknown>): T {
  if (!result.ok) throw new Error(String(result.error));
  return result.value;
}

const tokenOf = (chance: Chance): JoinToken => ({
  base: [valid(parseHostPort(chance.of(['203.0.113.7:443', '[2001:db8::1]:8443', 'base.example.org:443'])))],
  caKeyHash: chance.bytes(32),
  secret: chance.bytes(32),
  role: chance.of(['supernode', 'exit', 'client'] as const),
  region: chance.of(['eu', 'us-east-1']) as Region,
});

function checkToken(text: string): void {
  const parsed = parseJoinToken(text, crypto.sha256);
  const token = orRefusal(parsed, ['bad-token']);
  if (token === undefined) {
    const message = parsed.ok ? '' : parsed.error.message;
    const secret = text.replace(/\s+/g, '').slice(5, 37);
    must(secret.length < 16 || !message.includes(secret), 'a refusal repeats the token', message);
    return;
  }
  const written = formatJoinToken(token, crypto.sha256);
  mustEqual(parseJoinToken(written, crypto.sha256), { ok: true, value: token }, 'a token comes out as another');
  must(!describeJoinToken(token).includes(toBase32(token.secret)), 'a description shows the secret');
}

/** The text as somebody pastes it. */
export const joinToken: Target = {
  name: 'join-token',
  shape: 'text',
  words: ['vpnd1', 'vpnd2', 'VPND1', ' ', '\n', '=', 'aaaaaaaa'],
  open: async () => ({
    make: (chance) => bytesOf(formatJoinToken(tokenOf(chance), crypto.sha256)),
    run: (input) => checkToken(textOf(input)),
  }),
};

/** What is inside, under a checksum that fits. */
export const tokenBody: Target = {
  name: 'token-body',
  shape: 'protobuf',
  words: ['eu', 'base.example.org', '::1', '[::1]', '1.2.3.4:5', 'a:b', ''],
  mostBytes: 6_000,
  open: async () => ({
    make: (chance) => bodyOf(formatJoinToken(tokenOf(chance), crypto.sha256)),
    run: (input) => checkToken(`vpnd1${toBase32(concat(input, crypto.sha256(input).slice(0, 4)))}`),
  }),
};

/** Without the checksum. */
const bodyOf = (token: string): Uint8Array => (fromBase32(token.slice(5)) ?? new Uint8Array()).slice(0, -4);

const membershipOf = (chance: Chance): Membership => ({
  peer: valid(peerIdOf(chance.bytes(32))),
  roles: chance.of([['exit'], ['client'], ['supernode', 'exit']] as const),
  region: 'eu' as Region,
  pool: chance.of(['', 'blue']),
  notBefore: NOW,
  notAfter: instantOf(NOW + 30 * 86_400_000),
  epoch: chance.below(4),
});

function offerOf(chance: Chance): Offer {
  const ip = (text: string) => valid(parseIp(text));
  const withKem = chance.oneIn(2);
  return {
    session: valid(sessionIdOf(chance.bytes(16))),
    clientKey: valid(wireGuardPublicKeyOf(chance.bytes(32))),
    exitKey: valid(wireGuardPublicKeyOf(chance.bytes(32))),
    inner: {
      ipv4: ip('10.200.0.2'),
      ipv6: ip('fd76:706e:6400::2'),
      gatewayIpv4: ip('10.200.0.1'),
      gatewayIpv6: ip('fd76:706e:6400::1'),
    },
    kemCiphertext: withKem ? chance.bytes(1_088) : new Uint8Array(),
    kemKeyHash: withKem ? chance.bytes(32) : new Uint8Array(),
    expires: instantOf(NOW + 3_600_000),
    ipv6: chance.oneIn(2),
  };
}

const headOf = (chance: Chance) => ({
  epoch: chance.below(9) + 1,
  issuedAt: NOW,
  count: chance.below(9),
  digest: chance.bytes(32),
});

const anchorsOf = (chance: Chance): Anchors => ({
  serial: chance.below(9) + 1,
  issuedAt: NOW,
  baseKeys: Array.from({ length: chance.below(2) + 1 }, () => chance.bytes(32)),
  authorities: ['-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n'],
});

interface Statement {
  readonly tag: string;
  readonly codes: readonly string[];
  make(chance: Chance): Signed;
  check(of: Signed): Result<unknown, VpndError>;
  again(value: never): Signed;
}

const STATEMENTS: readonly Statement[] = [
  {
    tag: 'vpnd/membership/v1',
    codes: ['bad-membership'],
    make: (chance) => signed.signMembership(own, membershipOf(chance)),
    check: (of) => signed.checkMembership(OWN_KEY, of, NOW),
    again: (value) => signed.signMembership(own, value),
  },
  {
    tag: 'vpnd/offer/v1',
    codes: ['bad-offer'],
    make: (chance) => signed.signOffer(own, offerOf(chance)),
    check: (of) => signed.checkOffer(own.id, of, NOW),
    again: (value) => signed.signOffer(own, value),
  },
  {
    tag: 'vpnd/revocations/v1',
    codes: ['bad-revocations'],
    make: (chance) => signed.signRevocations(own, headOf(chance)),
    check: (of) => signed.checkRevocations(OWN_KEY, of),
    again: (value) => signed.signRevocations(own, value),
  },
  {
    tag: 'vpnd/anchors/v1',
    codes: ['bad-signature', 'bad-message'],
    make: (chance) => signed.signAnchors(own, anchorsOf(chance)),
    check: (of) => signed.checkAnchors(OWN_KEY, of),
    again: (value) => signed.signAnchors(own, value),
  },
];

/** Bodies of statements with a signature that fits, which is what a mistaken or malicious signer can send. */
function statement(name: string, which: number): Target {
  const one = STATEMENTS[which] as Statement;
  return {
    name,
    shape: 'protobuf',
    words: ['eu', 'blue', '10.200.0.1', '10.200.0.01', 'fd76::1', 'FD76::1', '::ffff:10.0.0.1', '0.0.0.0'],
    mostBytes: 20_000,
    open: async () => ({
      make: (chance) => one.make(chance).body,
      run(body) {
        const signature = own.sign(signingInput(one.tag, [body]));
        const value = orRefusal(one.check({ body, signature }), [...one.codes, 'membership-expired']);
        // What it says is all that counts: written anew it says the same.
        if (value !== undefined)
          mustEqual(one.check(one.again(value as never)), { ok: true, value }, 'a statement changes');
      },
    }),
  };
}

export const membership = statement('membership', 0);
export const offer = statement('offer', 1);
export const revocationHead = statement('revocation-head', 2);
export const anchors = statement('anchors', 3);

/** Statements of a genuine signer, changed on their way: another byte anywhere, and it is refused. */
export const forged: Target = {
  name: 'forged',
  shape: 'bytes',
  mostBytes: 20_000,
  open: async (seed) => {
    const chance = new Chance(seed);
    const genuine = STATEMENTS.map((one) => Array.from({ length: 8 }, () => one.make(chance)));
    const known = new Set(
      genuine.flat().map(({ body, signature }) => Buffer.from(concat(signature, body)).toString('hex')),
    );
    return {
      make: (drawn) => {
        const which = drawn.below(STATEMENTS.length);
        const { body, signature } = drawn.of(genuine[which] ?? []);
        return concat(Uint8Array.of(which), signature, body);
      },
      run(input) {
        const one = STATEMENTS[(input[0] ?? 0) % STATEMENTS.length] as Statement;
        const signature = input.slice(1, 65);
        const body = input.slice(65);
        const value = orRefusal(one.check({ body, signature }), one.codes);
        if (value === undefined) return;
        must(known.has(Buffer.from(input.subarray(1)).toString('hex')), 'a statement that nobody signed is believed');
        // Nor is one of another kind, with the same bytes and the same signer.
        for (const other of STATEMENTS)
          if (other !== one) must(!other.check({ body, signature }).ok, 'it passes for another');
      },
    };
  },
};

const revocationOf = (chance: Chance): Revocation => ({
  peer: valid(peerIdOf(chance.bytes(32))),
  kind: chance.of(['peer', 'supernode'] as const),
  at: instantOf(chance.below(2 ** 31)),
});

/** Lists as they are kept on disk; and as a change of the list before them. */
export const revocationList: Target = {
  name: 'revocation-list',
  shape: 'bytes',
  mostBytes: 41 * 200,
  open: async () => {
    const before = noRevocations(crypto.sha256);
    return {
      make: (chance) => packRevocations(Array.from({ length: chance.below(6) }, () => revocationOf(chance))),
      run(packed) {
        const entries = unpackRevocations(packed);
        if (entries === undefined) return;
        mustEqual(packRevocations(entries), new Uint8Array(packed), 'a list that was never packed is unpacked');
        const digest = crypto.sha256(packed);
        const head = { epoch: 1, issuedAt: NOW, count: entries.length, digest };
        const change = {
          head: { body: utf8('x'), signature: new Uint8Array(64) },
          from: 0,
          added: entries,
          removed: [],
        };
        const applied = applyChange(before, head, change, crypto.sha256);
        must(applied.kind === 'newer', 'a list with the digest that was signed is refused', applied.kind);
        const short = applyChange(before, head, { ...change, added: entries.slice(1) }, crypto.sha256);
        must(entries.length === 0 || short.kind === 'forged', 'a list is believed with one entry less', short.kind);
      },
    };
  },
};
