import type { Mutant } from './mutant.js';

const CLAIMS = 'test/unit/membership-claims.test.ts';
const STATEMENTS = 'test/unit/identity-statements.test.ts';
const AUTH = 'src/core/auth.ts';
const ENROLMENT = 'src/roles/base/enrolment.ts';
const RECORDS = 'src/store/records.ts';

/** Who is a member, as what, and by which signature. */
export const MEMBERS: readonly Mutant[] = [
  {
    name: '05-members-by-renewal',
    class: 5,
    mistake: 'who renews a membership that it never had gets one',
    edits: [
      {
        file: ENROLMENT,
        find: 'const member = await this.ports.store.directory.member(peer);\n    if (member === undefined)',
        put: "const member = (await this.ports.store.directory.member(peer)) ?? { peer, roles: ['client' as const], region: 'eu' as never, pool: '', tokenId: '', enrolledAt: this.ports.clock.now(), revokedAt: undefined };\n    if (member === undefined)",
      },
    ],
    caughtBy: { file: CLAIMS, test: ['nobody is a member by where he comes from, whom he knows, or by asking'] },
  },
  {
    name: '05-members-by-company',
    class: 5,
    mistake: 'who comes over a connection of a member needs no token of his own',
    edits: [
      {
        file: ENROLMENT,
        find: 'if (!outcome.ok) throw tokenRefused(outcome.error);\n    const { member } = outcome;',
        put: "if (!outcome.ok && context.certified === undefined) throw tokenRefused(outcome.error);\n    const member = outcome.ok ? outcome.member : { peer, roles: [role], region: region ?? ('eu' as never), pool: '', tokenId: '', enrolledAt: this.ports.clock.now(), revokedAt: undefined };",
      },
    ],
    caughtBy: { file: CLAIMS, test: ['nobody is a member by where he comes from, whom he knows, or by asking'] },
  },
  {
    name: '06-look-then-spend',
    class: 6,
    mistake: 'base looks whether a token is unused, waits, and spends it then',
    edits: [
      {
        file: 'src/store/sqlite/directory.ts',
        find: 'redeem: async (secretHash, wish, now) => guard(() => redeem.immediate(secretHash, wish, now)),',
        put: `redeem: async (secretHash, wish, now) => {
      const row = tokenBySecret.get(Buffer.from(secretHash));
      const known = member.get(wish.peer);
      const decision = decideRedemption(row && tokenOf(row), known && memberOf(known), wish, now, false);
      await Promise.resolve();
      if (decision.kind === 'refuse') return { ok: false, error: decision.error };
      if (decision.kind === 'spend') setUses.run(decision.token.usesLeft, decision.token.id);
      if (decision.kind === 'spend') putMember.run(memberRow(decision.member));
      return { ok: true, member: decision.member };
    },`,
      },
    ],
    caughtBy: {
      file: 'test/contract/store.test.ts',
      test: ['sqlite store', 'of 100 simultaneous uses of a one-use token exactly one wins'],
    },
  },
  {
    name: '06-token-never-used-up',
    class: 6,
    mistake: 'uses of a token are counted, and nobody looks at the count',
    edits: [{ file: RECORDS, find: "if (token.usesLeft <= 0) return refuse('token-used');\n", put: '' }],
    caughtBy: {
      file: 'test/unit/base-enrolment.test.ts',
      test: ['of 100 uses of a one-use token at once exactly one wins'],
    },
  },
  {
    name: '07-known-by-what-it-says',
    class: 7,
    mistake: 'a supernode is known by the id that it gives, not by the one that it has signed with',
    edits: [
      { file: AUTH, find: 'published.id !== membership.peer || published.region', put: 'published.region' },
      {
        file: 'src/transport/streams/admission.ts',
        find: '    id: membership.peer,\n',
        put: '    id: request.supernode?.id ?? membership.peer,\n',
      },
    ],
    caughtBy: {
      file: CLAIMS,
      test: ['a node that takes the name, the region and the addresses of another one takes nothing over'],
    },
  },
  {
    name: '07-known-by-its-token',
    class: 7,
    mistake: 'who enrols with another token is taken for another node, and may come back',
    edits: [
      {
        file: 'src/store/memory.ts',
        find: 'decideRedemption(token, members.get(wish.peer), wish, now, revoked.has(wish.peer))',
        put: 'decideRedemption(token, undefined, wish, now, false)',
      },
      {
        file: ENROLMENT,
        find: 'this.#admitted(peer);\n    const secretHash',
        put: 'const secretHash',
      },
    ],
    caughtBy: {
      file: CLAIMS,
      test: ['a node that changes what it is called stays who it is, and loses and gains nothing'],
    },
  },
  {
    name: '07-another-ones-tunnel-key',
    class: 7,
    mistake: 'an exit hands a tunnel over to whoever names its public key',
    edits: [{ file: 'src/roles/common/exit-units.ts', find: ' || desired.clientKey === setup.clientKey;', put: ';' }],
    caughtBy: {
      file: 'test/unit/overlay-malice.test.ts',
      test: ['a supernode gives a client what another session has'],
    },
  },
  {
    name: '13-role-as-asked',
    class: 13,
    mistake: 'the role in a request counts, not the token’s',
    edits: [
      { file: RECORDS, find: "if (wish.role !== token.role) return refuse('wrong-role');\n", put: '' },
      { file: RECORDS, find: ': [token.role],', put: ': [wish.role],' },
    ],
    caughtBy: {
      file: CLAIMS,
      test: ['what a node says of itself gives it nothing: role, region and pool are those of its token'],
    },
  },
  {
    name: '13-region-as-asked',
    class: 13,
    mistake: 'the region in a request counts, not the token’s',
    edits: [
      {
        file: RECORDS,
        find: "if (wish.region !== undefined && wish.region !== token.region) return refuse('wrong-region');\n",
        put: '',
      },
      {
        file: RECORDS,
        find: '      region: token.region,\n      pool',
        put: '      region: wish.region ?? token.region,\n      pool',
      },
    ],
    caughtBy: {
      file: CLAIMS,
      test: ['what a node says of itself gives it nothing: role, region and pool are those of its token'],
    },
  },
  {
    name: '13-fields-of-the-request',
    class: 13,
    mistake: 'whatever a request holds is written over the member that the token makes',
    edits: [
      {
        file: ENROLMENT,
        find: 'const { member } = outcome;',
        put: 'const member = { ...outcome.member, ...(request as object) };',
      },
    ],
    caughtBy: {
      file: CLAIMS,
      test: ['what a node says of itself gives it nothing: role, region and pool are those of its token'],
    },
  },
  {
    name: '13-role-on-the-stream',
    class: 13,
    mistake: 'a stream is of the role that its peer asks for',
    edits: [
      {
        file: AUTH,
        find: 'if (!membership.roles.includes(request.role)) {',
        put: 'if (membership.roles.length === 0) {',
      },
    ],
    caughtBy: { file: 'test/unit/auth.test.ts', test: ['each thing that can be wrong has its own word'] },
  },
  {
    name: '14-statements-parsed',
    class: 14,
    mistake: 'memberships, offers and lists of revocations are parsed, and their signatures are not looked at',
    edits: [
      {
        file: 'src/identity/statements.ts',
        find: 'return keys.some((one) => crypto.verify(one, input, signature));',
        put: 'return keys.length > 0 && signature.length === 64;',
      },
    ],
    caughtBy: { file: STATEMENTS, test: ['a membership with any one bit flipped is refused'] },
  },
  {
    name: '14-offer-parsed',
    class: 14,
    mistake: 'an offer is parsed, and its signature is not looked at',
    edits: [
      {
        file: 'src/identity/statements.ts',
        find: "if (!genuine(keyOf(exit), OFFER_TAG, signed)) return err(badOffer('it was not signed by this exit'));\n",
        put: '',
      },
    ],
    caughtBy: { file: STATEMENTS, test: ['an offer says what the exit signed, with any bit flipped it says nothing'] },
  },
  {
    name: '14-one-tag-for-all',
    class: 14,
    mistake: 'a signature of one kind of statement counts for another',
    edits: [
      {
        file: 'src/identity/statements.ts',
        find: "const OFFER_TAG = 'vpnd/offer/v1';",
        put: "const OFFER_TAG = 'vpnd/membership/v1';",
      },
    ],
    caughtBy: { file: CLAIMS, test: ['every signature says what kind of statement it is for'] },
  },
  {
    name: '14-challenge-unsigned',
    class: 14,
    mistake: 'the signature on an AuthRequest is not looked at',
    edits: [
      {
        file: AUTH,
        find: 'if (!tools.crypto.verify(keyOf(membership.peer), input, request.signature)) {',
        put: 'if (request.signature.length !== 64) {',
      },
    ],
    caughtBy: { file: 'test/unit/auth.test.ts', test: ['no bit of what is signed can be flipped'] },
  },
  {
    name: '14-connection-not-signed',
    class: 14,
    mistake: 'an AuthRequest does not say for which connection it is: a man in the middle may hand it on',
    edits: [{ file: AUTH, find: '    fields.serverKeyHash,\n', put: '    NO_KEY,\n' }],
    caughtBy: {
      file: 'test/unit/stream-manager.test.ts',
      test: ['a replayed AuthRequest and one through a man in the middle are refused'],
    },
  },
  {
    name: '14-enrolment-unsigned',
    class: 14,
    mistake: 'base does not look whether an enrolment is signed by the node it is for',
    edits: [
      {
        file: ENROLMENT,
        find: 'if (!this.ports.crypto.verify(keyOf(peer), input, signature))',
        put: 'if (signature.length !== 64)',
      },
    ],
    caughtBy: {
      file: 'test/unit/base-enrolment.test.ts',
      test: ['what a token is refused for has its word, and spends nothing'],
    },
  },
  {
    name: '14-token-without-checksum',
    class: 14,
    mistake: 'the checksum of a join token is not compared',
    edits: [
      {
        file: 'src/identity/join-token.ts',
        find: 'if (!equalConstantTime(checksum, sha256(body).slice(0, CHECKSUM_LENGTH)))',
        put: 'if (checksum.length !== CHECKSUM_LENGTH)',
      },
    ],
    caughtBy: { file: 'test/unit/identity-join-token.test.ts', test: ['every single wrong character is noticed'] },
  },
  {
    name: '14-csr-unsigned',
    class: 14,
    mistake: 'base certifies a key that whoever asks does not hold',
    edits: [{ file: 'src/identity/ca.ts', find: 'if (!genuine)', put: 'if (genuine === undefined)' }],
    caughtBy: {
      file: 'test/unit/identity-ca.test.ts',
      test: ['a request that is not signed by its own key, or for another kind of key, is refused'],
    },
  },
  {
    name: '17-static-nonce',
    class: 17,
    mistake: 'the nonce of an AuthRequest is always the same',
    edits: [
      {
        file: AUTH,
        find: 'const clientNonce = random.bytes(32);',
        put: 'const clientNonce = new Uint8Array(32).fill(1);',
      },
    ],
    caughtBy: {
      file: 'test/unit/fresh-randomness.test.ts',
      test: ['the answers to a challenge: no nonce comes twice'],
    },
  },
  {
    name: '17-short-nonce',
    class: 17,
    mistake: 'random bytes are four and their repetition',
    edits: [
      {
        file: 'src/identity/sodium.ts',
        find: 'bytes: (length) => new Uint8Array(randomBytes(length)),',
        put: 'bytes: (length) => {\n    const four = randomBytes(4);\n    return Uint8Array.from({ length }, (_, i) => four[i % 4] ?? 0).map((byte, i) => (i < 4 ? byte : 0));\n  },',
      },
    ],
    caughtBy: {
      file: 'test/unit/fresh-randomness.test.ts',
      test: ['a million challenges: none comes twice'],
    },
  },
  {
    name: '17-one-challenge',
    class: 17,
    mistake: 'a server gives every stream the same challenge',
    edits: [
      {
        file: 'src/transport/grpc/server.ts',
        find: 'const challenge = this.#deps.random.bytes(CHALLENGE_BYTES);',
        put: 'const challenge = new Uint8Array(CHALLENGE_BYTES).fill(7);',
      },
    ],
    caughtBy: {
      file: 'test/contract/network.test.ts',
      test: ['gRPC network', 'every stream has a challenge of its own'],
    },
  },
  {
    name: '18-list-of-blobs',
    class: 18,
    mistake: 'who is shut out is known by the bytes of its membership: other bytes for the same come in',
    edits: [
      {
        file: 'src/transport/streams/admission.ts',
        find: 'const barred = deps.barred?.(claimed);',
        put: 'const barred = request.membership.body.at(-2) === 0x01 ? undefined : deps.barred?.(claimed);',
      },
    ],
    caughtBy: {
      file: 'test/unit/base-revocation.test.ts',
      test: ['it is the key that is shut out, not a way of writing it'],
    },
  },
  {
    name: '18-another-spelling',
    class: 18,
    mistake: 'several texts stand for one key',
    edits: [
      {
        file: 'src/model/bytes.ts',
        find: 'if (bits >= 5 || (value & ((1 << bits) - 1)) !== 0) return undefined;',
        put: 'if (bits >= 5) return undefined;',
      },
    ],
    caughtBy: {
      file: 'test/unit/base-revocation.test.ts',
      test: ['it is the key that is shut out, not a way of writing it'],
    },
  },
  {
    name: '24-any-success-admits',
    class: 24,
    mistake: 'whose proof fails may send another one on the same stream',
    edits: [
      {
        file: 'src/transport/stream-manager.ts',
        find: 'this.#deny(connection, errorOfRefusal(refusalOfThrown(thrown)));',
        put: "if (connection.state.kind === 'admitting') connection.state = { kind: 'waiting' };",
      },
    ],
    caughtBy: { file: 'test/unit/stream-manager.test.ts', test: ['two AuthRequests at once do not combine'] },
  },
  {
    name: '24-certificate-or-membership',
    class: 24,
    mistake: 'a certificate of another node does for a membership',
    edits: [
      {
        file: AUTH,
        find: 'if (certified === undefined ? expectation.requireCertificate : certified !== membership.peer) {',
        put: 'if (certified === undefined && expectation.requireCertificate) {',
      },
    ],
    caughtBy: { file: 'test/unit/auth.test.ts', test: ['each thing that can be wrong has its own word'] },
  },
  {
    name: '29-part-of-the-key',
    class: 29,
    mistake: 'an id is made of the first 20 bytes of a key',
    edits: [
      {
        file: 'src/model/ids.ts',
        find: 'ok(toBase32(key) as PeerId)',
        put: 'ok(toBase32(key.map((byte, i) => (i < 20 ? byte : 0))) as PeerId)',
      },
    ],
    caughtBy: {
      file: 'test/unit/identity-is-the-key.test.ts',
      test: ['an id is the whole key: keys that differ in one bit, wherever, are two nodes'],
    },
  },
  {
    name: '29-peers-by-short-id',
    class: 29,
    mistake: 'streams are looked up by as much of an id as people are shown',
    edits: [
      {
        file: 'src/transport/streams/peer-index.ts',
        find: 'return this.#byId.get(id)?.value;',
        put: 'return [...this.#byId].find(([known]) => known.startsWith(id.slice(0, 10)))?.[1].value;',
      },
    ],
    caughtBy: {
      file: 'test/unit/identity-is-the-key.test.ts',
      test: ['nodes that look alike are kept apart wherever they are looked up'],
    },
  },
  {
    name: '29-the-first-that-fits',
    class: 29,
    mistake: 'an operator who types the beginning of two ids shuts the first one out',
    edits: [
      {
        file: 'src/roles/base/members.ts',
        find: '  if (another !== undefined)\n',
        put: '  if (another !== undefined && text.length === 0)\n',
      },
    ],
    caughtBy: {
      file: 'test/unit/identity-is-the-key.test.ts',
      test: ['the beginning of two ids is no id: nobody is shut out in the place of another one'],
    },
  },
];
