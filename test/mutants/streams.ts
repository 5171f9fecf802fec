import type { Mutant } from './mutant.js';

const STREAM_MANAGER = 'test/unit/stream-manager.test.ts';
const GRPC = 'test/contract/network-grpc.test.ts';
const GUARD = 'src/transport/grpc/guard.ts';
const GUARD_TEST = 'test/unit/guard.test.ts';
const BACK = 'src/roles/supernode/back.ts';
const LEDGER = 'src/core/ledger.ts';

/** What peers may ask, of whom and how much, and what their messages may cost. */
export const STREAMS: readonly Mutant[] = [
  {
    name: '09-latest-clock-counts',
    class: 9,
    mistake: 'a node is refused once it has signed with a later time than it signs with now',
    edits: [
      {
        file: 'src/transport/streams/admission.ts',
        find: 'const PROBE_TOKEN_BYTES = 16;\n',
        put: 'const PROBE_TOKEN_BYTES = 16;\nconst LATEST = new Map<PeerId, Instant>();\n',
      },
      {
        file: 'src/transport/streams/admission.ts',
        find: '  const now = deps.clock.now();\n',
        put: "  const latest = LATEST.get(claimed) ?? 0;\n  if (request.timestamp < latest) return err(new VpndError('clock-skew', 'older than before'));\n  LATEST.set(claimed, request.timestamp);\n  const now = deps.clock.now();\n",
      },
    ],
    caughtBy: {
      file: 'test/unit/clock-ahead.test.ts',
      test: ['streams: refused while it is wrong, let in as soon as it is right, however late it was'],
    },
  },
  {
    name: '09-renewals-in-order',
    class: 9,
    mistake: 'base takes no renewal with an earlier time than the last one’s',
    edits: [
      {
        file: 'src/roles/base/enrolment.ts',
        find: '  async #renew(renewal: Renewal): Promise<RenewalResult> {\n    this.#fresh(renewal.timestamp);\n',
        put: "  readonly #latest = new Map<PeerId, Instant>();\n  async #renew(renewal: Renewal): Promise<RenewalResult> {\n    if (renewal.timestamp < (this.#latest.get(renewal.peer) ?? 0)) throw new VpndError('clock-skew', 'older than before');\n    this.#latest.set(renewal.peer, renewal.timestamp);\n    this.#fresh(renewal.timestamp);\n",
      },
    ],
    caughtBy: { file: 'test/unit/clock-ahead.test.ts', test: ['enrolment and renewal, before and after'] },
  },
  {
    name: '12-sessions-of-others',
    class: 12,
    mistake: 'a node obeys orders about a session that another supervisor set up',
    edits: [
      {
        file: LEDGER,
        find: 'session !== undefined && session.owner !== owner',
        put: "session !== undefined && owner === ('' as PeerId)",
      },
    ],
    caughtBy: { file: 'test/unit/ledger.test.ts', test: ['what becomes of a command'] },
  },
  {
    name: '12-ends-of-others',
    class: 12,
    mistake: 'any supernode may end the sessions of another one',
    edits: [
      {
        file: BACK,
        find: "if (one.origin !== origin) throw new VpndError('forbidden', 'this session was opened by another supernode');\n      await this.#end",
        put: 'await this.#end',
      },
    ],
    caughtBy: { file: 'test/unit/overlay-malice.test.ts', test: ['only the supernode that opened a session ends it'] },
  },
  {
    name: '12-renewals-of-others',
    class: 12,
    mistake: 'a supernode may have others’ memberships renewed on its own stream',
    edits: [
      {
        file: 'src/roles/base/enrolment.ts',
        find: "if (renewal.peer !== peer) throw new VpndError('forbidden', 'a node renews its own membership only');\n",
        put: '',
      },
    ],
    caughtBy: {
      file: 'test/unit/base-directory.test.ts',
      test: ['a supernode renews on its stream, for itself only'],
    },
  },
  {
    name: '12-datagrams-of-others',
    class: 12,
    mistake: 'a client may have the session of another one carried over its own stream',
    edits: [
      {
        file: 'src/roles/supernode/carrier.ts',
        find: 'if (this.deps.front(session)?.client !== client) return;',
        put: 'if (this.deps.front(session) === undefined) return;',
      },
    ],
    caughtBy: {
      file: 'test/unit/carrier.test.ts',
      test: ['only the client that owns a session has it carried, and only while it goes over relays'],
    },
  },
  {
    name: '12-directory-of-others',
    class: 12,
    mistake: 'a supernode may tell base what another one is like',
    edits: [
      {
        file: 'src/roles/base/base.ts',
        find: 'if (told.id !== peer.id || told.region !== peer.region)',
        put: 'if (told.region !== peer.region)',
      },
    ],
    caughtBy: {
      file: 'test/unit/base-directory.test.ts',
      test: ['a supernode speaks for itself only, and not all the time'],
    },
  },
  {
    name: '15-calls-of-anybody',
    class: 15,
    mistake: 'calls between supernodes need no certificate',
    edits: [
      {
        file: 'src/roles/supernode/revocations.ts',
        find: "if (certified === undefined) throw new VpndError('forbidden', 'only supernodes call this, with their certificate');",
        put: "if (certified === undefined) return '' as PeerId;",
      },
    ],
    caughtBy: {
      file: 'test/unit/docs-security.test.ts',
      test: ['calls between supernodes, and for regions at base, need a certificate of the CA'],
    },
  },
  {
    name: '15-streams-of-any-role',
    class: 15,
    mistake: 'base has a stream for whoever is a member, clients included',
    edits: [
      {
        file: 'src/core/auth.ts',
        find: 'if (!expectation.roles.includes(request.role)) {',
        put: 'if (expectation.roles.length === 0) {',
      },
    ],
    caughtBy: { file: 'test/unit/auth.test.ts', test: ['each thing that can be wrong has its own word'] },
  },
  {
    name: '21-state-before-limits',
    class: 21,
    mistake: 'how often an address may try is not looked at before a stream is taken',
    edits: [
      {
        file: 'src/transport/stream-manager.ts',
        find: 'if (!this.#gate.allowAddress(accepted.stream.remote.ip)) {',
        put: 'if (accepted.challenge.length === 0) {',
      },
    ],
    caughtBy: {
      file: STREAM_MANAGER,
      test: ['a flood from one address is stopped before any signature check; another address comes through'],
    },
  },
  {
    name: '21-connections-without-end',
    class: 21,
    mistake: 'a sender may make as many connections as it likes, each with a TLS handshake',
    edits: [
      {
        file: GUARD,
        find: 'const allowed = this.#rate.allow(limitKey(ip));',
        put: 'const allowed = limitKey(ip) !== "";',
      },
    ],
    caughtBy: {
      file: GUARD_TEST,
      test: ['row 21: one sender gets so many connections and no more, before TLS; an IPv6 /64 is one sender'],
    },
  },
  {
    name: '21-places-without-end',
    class: 21,
    mistake: 'streams that never authenticate take as many places as there come',
    edits: [
      {
        file: 'src/transport/fair-places.ts',
        find: 'const from = own >= this.#limits.perSender ? sender : this.#size >= this.#limits.all ? this.#largest() : undefined;',
        put: 'const from = this.#size < 0 ? sender : undefined;',
      },
    ],
    caughtBy: { file: STREAM_MANAGER, test: ['streams that never authenticate take a bounded number of places'] },
  },
  {
    name: '21-lockout-by-strangers',
    class: 21,
    mistake: 'attempts in the name of a peer count for that peer, from wherever they come',
    edits: [
      {
        file: 'src/transport/streams/gate.ts',
        find: 'return this.#perPeer.allow(home ? `${claimed} at home` : claimed);',
        put: 'return this.#perPeer.allow(home ? claimed : claimed);',
      },
    ],
    caughtBy: {
      file: STREAM_MANAGER,
      test: ['attempts in the name of one peer are limited, and do not lock that peer out of its own address'],
    },
  },
  {
    name: '21-vouched-by-a-copy',
    class: 21,
    mistake: 'a stranger turns a session by sending a copy of its peer’s datagram',
    edits: [
      {
        file: 'src/roles/supernode/reflector.ts',
        find: 'vouch.counter <= highest - WINDOW : before !== from.ip) return false;',
        put: 'vouch.counter <= highest - WINDOW : false) return false;',
      },
    ],
    caughtBy: {
      file: 'test/unit/reflector.test.ts',
      test: ['a copy of a vouch, sent from elsewhere, vouches for nobody'],
    },
  },
  {
    name: '22-end-undone',
    class: 22,
    mistake: 'after its end a session takes orders of the same generation again',
    edits: [
      {
        file: LEDGER,
        find: '  command.generation > session.generation ||\n',
        put: '  command.generation >= session.generation ||\n',
      },
    ],
    caughtBy: { file: 'test/unit/ledger.test.ts', test: ['what becomes of a command'] },
  },
  {
    name: '22-end-prolongs',
    class: 22,
    mistake: 'an end that is said again keeps what the session had, for another lease',
    edits: [
      {
        file: LEDGER,
        find: "if (put.kind === 'disconnect') return [];",
        put: "if (put.kind === 'disconnect') return before;",
      },
    ],
    caughtBy: {
      file: 'test/unit/ledger.test.ts',
      test: ['in whatever order, doubled and replayed, commands end in what the newest generation says'],
    },
  },
  {
    name: '23-message-that-throws',
    class: 23,
    mistake: 'what a message brings about may throw out of its stream',
    edits: [
      {
        file: 'src/transport/framed-stream.ts',
        find: "this.#log.error('a control message could not be handled', { err: thrown });\n      this.end(toVpndError(thrown));",
        put: 'throw thrown;',
      },
    ],
    caughtBy: {
      file: 'test/contract/network.test.ts',
      test: ['gRPC network', 'a listener that throws ends its own stream and no other'],
    },
  },
  {
    name: '23-parser-that-throws',
    class: 23,
    mistake: 'a malformed message is an exception, not a refusal',
    edits: [
      {
        file: 'src/transport/codec/fields.ts',
        find: "    const reason = thrown instanceof Error ? thrown.message : String(thrown);\n    return err(new VpndError('bad-message', `malformed ${what}: ${reason}`, { cause: thrown }));",
        put: '    throw thrown;',
      },
    ],
    caughtBy: { file: 'test/unit/codec.test.ts', test: ['random bytes are refused or understood, and never throw'] },
  },
  {
    name: '25-relay-to-loopback',
    class: 25,
    mistake: 'a relay may be pointed at this machine and its networks',
    edits: [
      {
        file: 'dataplane/validate.ts',
        find: 'if (isNeverAHost(ip)) refuse(unit, `${ip} is no address to relay to`);',
        put: "if (ip === '') refuse(unit, `${ip} is no address to relay to`);",
      },
    ],
    caughtBy: {
      file: 'test/unit/special-addresses.test.ts',
      test: ['row 25: a relay to, from or on a special address, IPv4'],
    },
  },
  {
    name: '25-relay-for-loopback',
    class: 25,
    mistake: 'packets from this machine’s own addresses are vouched for',
    edits: [
      {
        file: 'dataplane/validate.ts',
        find: 'if (isNeverAHost(ip)) refuse(unit, `${ip} is no address to relay for`);',
        put: "if (ip === '') refuse(unit, `${ip} is no address to relay for`);",
      },
    ],
    caughtBy: {
      file: 'test/unit/special-addresses.test.ts',
      test: ['row 25: a relay to, from or on a special address, IPv4'],
    },
  },
  {
    name: '25-translated-addresses',
    class: 25,
    mistake: 'IPv4 addresses that a translator makes of IPv6 ones are no special addresses',
    edits: [
      {
        file: 'src/model/never-a-host.ts',
        find: "  '::ffff:0:0/96',\n  '64:ff9b::/96',\n  'fe80::/10',\n",
        put: "  '::ffff:0:0/96',\n  'fe80::/10',\n",
      },
    ],
    caughtBy: {
      file: 'test/unit/special-addresses.test.ts',
      test: ['row 25: a relay to, from or on a special address, IPv6'],
    },
  },
  {
    name: '25-exit-sends-anywhere',
    class: 25,
    mistake: 'an exit sends to whatever address its supernode names',
    edits: [
      {
        file: 'src/roles/exit/projection.ts',
        find: 'if (endpoint !== undefined && isNeverAHost(endpoint.ip)) {',
        put: "if (endpoint !== undefined && isNeverAHost(endpoint.ip) && endpoint.ip === '') {",
      },
    ],
    caughtBy: {
      file: 'test/unit/special-addresses.test.ts',
      test: ['row 25: a supernode tells an exit to send to a special address, v4 and v6'],
    },
  },
  {
    name: '25-any-previous-hop',
    class: 25,
    mistake: 'a relay sends to whatever address its asker names',
    edits: [
      {
        file: BACK,
        find: 'if (hop !== undefined && !this.deps.relayIpsOf(origin).includes(hop.ip)) {',
        put: "if (hop !== undefined && hop.ip === '') {",
      },
    ],
    caughtBy: {
      file: 'test/unit/docs-security.test.ts',
      test: ['a relay sends to its asker’s own relay addresses and nowhere else'],
    },
  },
  {
    name: '26-limit-after-decompression',
    class: 26,
    mistake: 'how large a message may be is looked at when it is whole, if at all',
    edits: [
      {
        file: 'src/transport/grpc/control-call.ts',
        find: 'if (length > MAX_MESSAGE_BYTES) {',
        put: 'if (length > 2 ** 32) {',
      },
    ],
    caughtBy: { file: GRPC, test: ['a decompression bomb and swollen metadata are cut off'] },
  },
  {
    name: '27-streams-uncounted',
    class: 27,
    mistake: 'HTTP/2 streams that are reset at once are not counted',
    edits: [
      {
        file: GUARD,
        find: "if (!this.#streams.take(1)) this.#guard.cut(this, 'streams');",
        put: 'this.#streams.take(1);',
      },
    ],
    caughtBy: {
      file: GUARD_TEST,
      test: ['row 27: streams that are opened are counted; a supernode may make many calls'],
    },
  },
  {
    name: '27-noise-uncounted',
    class: 27,
    mistake: 'frames that bring no message cost whoever sends them nothing',
    edits: [{ file: GUARD, find: 'return this.#level > burst;', put: 'return this.#level < 0;' }],
    caughtBy: {
      file: GUARD_TEST,
      test: ['row 27: bytes that bring no message end a connection, of strangers and of peers'],
    },
  },
  {
    name: '27-floods-in-turn',
    class: 27,
    mistake: 'hours without a flood pay for one',
    edits: [
      {
        file: GUARD,
        find: 'this.#level = Math.max(0, this.#level - drained + noise - this.#noise);',
        put: 'this.#level = this.#level - drained + noise - this.#noise;',
      },
    ],
    caughtBy: { file: GUARD_TEST, test: ['row 27: hours of good behaviour buy no flood'] },
  },
  {
    name: '28-endless-outbox',
    class: 28,
    mistake: 'what a peer does not read is kept for it',
    edits: [
      {
        file: 'src/transport/framed-stream.ts',
        find: 'if (this.#messages >= OUTBOX_MESSAGES || this.#bytes + bytes.length > OUTBOX_BYTES) {',
        put: 'if (this.#messages < 0) {',
      },
    ],
    caughtBy: {
      file: 'test/contract/network.test.ts',
      test: ['memory network', 'a peer that does not read is disconnected, not buffered for'],
    },
  },
  {
    name: '28-endless-messages',
    class: 28,
    mistake: 'what a peer sends is taken as fast as it comes',
    edits: [
      {
        file: GUARD,
        find: 'return ms(Math.max(0, this.#paidUntil - now - (burst * 1_000) / perSecond));',
        put: 'return ms(0);',
      },
    ],
    caughtBy: { file: GUARD_TEST, test: ['row 28: what a peer sends faster than it may has to wait'] },
  },
  {
    name: '28-endless-requests',
    class: 28,
    mistake: 'a peer may have any number of requests under way',
    edits: [
      {
        file: 'src/transport/streams/live-stream.ts',
        find: 'if (this.#requests >= MAX_REQUESTS_IN_FLIGHT) {',
        put: 'if (this.#requests < 0) {',
      },
    ],
    caughtBy: { file: STREAM_MANAGER, test: ['one peer has a bounded number of requests under way'] },
  },
  {
    name: '28-endless-keys',
    class: 28,
    mistake: 'every sender that ever tried is remembered',
    edits: [
      {
        file: 'src/core/rate-limit.ts',
        find: 'if (this.#fullAt.size > this.#maxKeys) {',
        put: 'if (this.#fullAt.size < 0) {',
      },
    ],
    caughtBy: {
      file: 'test/unit/rate-limit.test.ts',
      test: ['memory stays bounded under a flood of keys, and a busy key stays limited'],
    },
  },
];
