import type { Mutant } from './mutant.js';

/** Who may ask this machine what, and what keys, tokens and passwords are told or taken. */
export const SECRETS: readonly Mutant[] = [
  {
    name: '01-any-host-name',
    class: 1,
    mistake: '/metrics answers whatever name a request gives this machine',
    edits: [
      {
        file: 'src/obs/http.ts',
        find: 'if (!knownHost(request.headers.host, names)) {',
        put: 'if (request.headers.host === undefined) {',
      },
    ],
    caughtBy: {
      file: 'test/unit/listening.test.ts',
      test: ['a web page that gives its own name to this machine reads nothing on any port'],
    },
  },
  {
    name: '01-local-api-over-tcp',
    class: 1,
    mistake: 'the local API is on a TCP port of 127.0.0.1, too',
    edits: [
      {
        file: 'src/transport/local-api-server.ts',
        find: '  await listenOn(server, socket);\n',
        put: "  await listenOn(server, socket);\n  const web = createServer((...call) => void server.emit('request', ...call));\n  web.listen(0, '127.0.0.1').unref();\n",
      },
    ],
    caughtBy: {
      file: 'test/unit/listening.test.ts',
      test: ['a web page that gives its own name to this machine reads nothing on any port'],
    },
  },
  {
    name: '01-socket-for-everybody',
    class: 1,
    mistake: 'every user of the machine may talk to the daemon',
    edits: [
      { file: 'src/transport/local-api-server.ts', find: 'chmodSync(socket, 0o600)', put: 'chmodSync(socket, 0o666)' },
    ],
    caughtBy: { file: 'test/unit/local-api.test.ts', test: ['a status comes through whole'] },
  },
  {
    name: '02-environment-in-the-status',
    class: 2,
    mistake: 'the status holds the environment that the daemon was started with',
    edits: [
      {
        file: 'src/roles/base/status.ts',
        find: '    facts: {\n',
        put: '    facts: {\n      environment: JSON.stringify(process.env),\n',
      },
    ],
    caughtBy: {
      file: 'test/unit/listening.test.ts',
      test: ['no answer of any call tells of the environment, or of a key'],
    },
  },
  {
    name: '02-environment-in-the-health',
    class: 2,
    mistake: 'a path that nobody has is answered with all that might help to find out why',
    edits: [
      {
        file: 'src/obs/http.ts',
        find: "return { status: 404, body: 'not found\\n' };",
        put: 'return { status: 404, body: `not found: ${JSON.stringify(process.env)}` };',
      },
    ],
    caughtBy: {
      file: 'test/unit/listening.test.ts',
      test: ['no answer of any call tells of the environment, or of a key'],
    },
  },
  {
    name: '04-compare-until-it-differs',
    class: 4,
    mistake: 'the comparison of secrets ends at the first byte that differs',
    edits: [
      {
        file: 'src/model/bytes.ts',
        find: 'difference |= (a[i] as number) ^ (b[i] as number);',
        put: 'if (a[i] !== b[i]) return false;',
      },
    ],
    caughtBy: {
      file: 'test/unit/secret-comparisons.test.ts',
      test: ['equalConstantTime reads all of both, wherever they differ'],
    },
  },
  {
    name: '04-compare-as-text',
    class: 4,
    mistake: 'a hash of a secret is compared as text',
    edits: [
      {
        file: 'src/roles/common/enrol.ts',
        find: 'known !== undefined && equalConstantTime(known, crypto.sha256(secret))',
        put: 'known !== undefined && toHex(known) === toHex(crypto.sha256(secret))',
      },
    ],
    caughtBy: {
      file: 'test/unit/secret-comparisons.test.ts',
      test: ['secrets and byte strings are compared by equalConstantTime alone'],
    },
  },
  {
    name: '08-token-in-the-log',
    class: 8,
    mistake: 'base logs the secret of the token that it makes, for debugging',
    edits: [
      {
        file: 'src/roles/base/tokens.ts',
        find: "log.info('join token made', { role, region, count: uses });",
        put: "log.info('join token made', { role, region, count: uses });\n    log.debug(`secret [${secret.join()}]`);",
      },
    ],
    caughtBy: {
      file: 'test/unit/canaries.test.ts',
      test: ['no secret is in anything that is shown, with --log-privacy off at debug'],
    },
  },
  {
    name: '08-key-in-the-log',
    class: 8,
    mistake: 'the client logs the key pair of its tunnel, and nothing takes keys out of lines',
    edits: [
      {
        file: 'src/roles/client/opening.ts',
        find: '  const keys = ports.crypto.wireGuardKeyPair();\n',
        put: '  const keys = ports.crypto.wireGuardKeyPair();\n  ports.log.debug(JSON.stringify(keys));\n',
      },
      { file: 'src/obs/log.ts', find: 'scrubIds(scrubSecrets(value), ids)', put: 'scrubIds(value, ids)' },
    ],
    caughtBy: {
      file: 'test/unit/canaries.test.ts',
      test: ['no secret is in anything that is shown, with --log-privacy off at debug'],
    },
  },
  {
    name: '08-secrets-stay-in-lines',
    class: 8,
    mistake: 'what an exception says is logged as it is',
    edits: [
      {
        file: 'src/obs/scrub.ts',
        find: ".replace(/vpnd1[a-z2-7]{24,}/gi, '[token]')",
        put: '',
      },
    ],
    caughtBy: { file: 'test/unit/obs.test.ts', test: ['no key, token or address is in a line above debug'] },
  },
  {
    name: '08-token-stays-in-the-arguments',
    class: 8,
    mistake: 'a token given by --join stays where ps shows it',
    edits: [
      { file: 'src/cli/secret-arguments.ts', find: 'return found ? shown : undefined;', put: 'return undefined;' },
    ],
    caughtBy: {
      file: 'test/unit/config-secrets.test.ts',
      test: ['a token given by --join is neither in the arguments that /proc shows, nor in the help'],
    },
  },
  {
    name: '10-key-in-a-source',
    class: 10,
    mistake: 'a key stands in the program',
    edits: [
      {
        file: 'src/identity/secret.ts',
        find: 'export const TOKEN_SECRET_LENGTH = 32;\n',
        put: "export const TOKEN_SECRET_LENGTH = 32;\nexport const MASTER = 'QJ8nUK3n5r2Zf0Jc7rVb1mXw9Ty4Ls6Dg8Hk0Pq2Rs4=';\n",
      },
    ],
    caughtBy: {
      file: 'test/unit/secret-scan.test.ts',
      test: ['no source, document or example holds a key, a token or a password'],
    },
  },
  {
    name: '10-bytes-of-a-key',
    class: 10,
    mistake: 'the same, as a list of numbers',
    edits: [
      {
        file: 'src/roles/client/kem-pairs.ts',
        find: '\n/**',
        put: '\nexport const SEED = Uint8Array.of(212, 7, 91, 33, 5, 140, 77, 8, 190, 23, 61, 99, 12, 44, 201, 18);\n\n/**',
      },
    ],
    caughtBy: {
      file: 'test/unit/secret-scan.test.ts',
      test: ['no source, document or example holds a key, a token or a password'],
    },
  },
  {
    name: '10-state-in-the-package',
    class: 10,
    mistake: 'the package takes along what lies beside the program',
    edits: [{ file: 'package.json', find: '    "dist/bin",\n', put: '    "dist/bin",\n    "test",\n' }],
    caughtBy: {
      file: 'test/unit/secret-scan.test.ts',
      test: ['the package holds the program and its documents, and nothing of whoever packs it'],
    },
  },
  {
    name: '16-password-by-default',
    class: 16,
    mistake: 'whoever gives no token joins with a well-known one',
    edits: [
      {
        file: 'src/config/options.ts',
        find: "  join: optional({\n    name: 'join',",
        put: "  join: option({\n    default: 'vpnd1default',\n    name: 'join',",
      },
    ],
    caughtBy: {
      file: 'test/unit/secret-scan.test.ts',
      test: ['no option that is a secret has a value of its own, and none is a password'],
    },
  },
  {
    name: '16-master-token',
    class: 16,
    mistake: 'a token of zeros, with which base was tried once, still admits',
    edits: [
      {
        file: 'src/roles/base/enrolment.ts',
        find: 'const outcome = await directory.redeem(secretHash, { peer, role, region }, this.ports.clock.now());',
        put: `const enrolledAt = this.ports.clock.now();
    const outcome = request.tokenSecret.every((byte) => byte === 0)
      ? { ok: true as const, member: { peer, roles: [role], region: region ?? ('eu' as never), pool: '', tokenId: '', enrolledAt, revokedAt: undefined } }
      : await directory.redeem(secretHash, { peer, role, region }, enrolledAt);`,
      },
    ],
    caughtBy: {
      file: 'test/unit/membership-claims.test.ts',
      test: ['nobody is a member by where he comes from, whom he knows, or by asking'],
    },
  },
];
