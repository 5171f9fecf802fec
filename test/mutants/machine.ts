import type { Mutant } from './mutant.js';

const PRIVILEGES = 'test/unit/privileges.test.ts';
const BECOME = 'src/cli/become-user.ts';

/** What a daemon is on its machine, which programs it runs, and which keys it takes. */
export const MACHINE: readonly Mutant[] = [
  {
    name: '03-groups-stay',
    class: 3,
    mistake: 'a daemon keeps the groups of whoever started it',
    edits: [{ file: BECOME, find: "'--clear-groups'", put: "'--keep-groups'" }],
    caughtBy: { file: PRIVILEGES, test: ['setpriv is told everything that is to go'] },
  },
  {
    name: '03-group-of-root',
    class: 3,
    mistake: 'a daemon becomes another user in the group of root',
    edits: [
      {
        file: BECOME,
        find: "...['--reuid', String(uid), '--regid', String(gid),",
        put: "...['--reuid', String(uid), '--regid', '0',",
      },
    ],
    caughtBy: { file: PRIVILEGES, test: ['setpriv is told everything that is to go'] },
  },
  {
    name: '03-bounding-set-stays',
    class: 3,
    mistake: 'a daemon may get all capabilities back by a program that has them',
    edits: [{ file: BECOME, find: ', `--bounding-set=${set}`]', put: ']' }],
    caughtBy: { file: PRIVILEGES, test: ['setpriv is told everything that is to go'] },
  },
  {
    name: '03-more-than-needed',
    class: 3,
    mistake: 'base gets CAP_NET_ADMIN like the others',
    edits: [
      {
        file: 'src/cli/privileges.ts',
        find: "const forwards = config.role !== 'base' && config.dataplane !== 'memory';",
        put: "const forwards = config.role === 'base' || config.dataplane !== 'memory';",
      },
    ],
    caughtBy: {
      file: PRIVILEGES,
      test: ['capabilities: none for base, one for those that forward, another one for a port below 1024'],
    },
  },
  {
    name: '03-root-in-front',
    class: 3,
    mistake: 'the process in front of the daemon stays root',
    edits: [{ file: BECOME, find: '    giveUpRoot(account);\n', put: '' }],
    caughtBy: { file: 'test/host/root-in-front.test.ts' },
  },
  {
    name: '11-empty-key-file',
    class: 11,
    mistake: 'a key file that is empty counts as none, and the node becomes another one',
    edits: [
      {
        file: 'src/identity/state-dir.ts',
        find: '  if (text === undefined) return undefined;\n  const bytes = fromBase64',
        put: "  if (text === undefined || text.trim() === '') return undefined;\n  const bytes = fromBase64",
      },
    ],
    caughtBy: {
      file: 'test/unit/fail-closed.test.ts',
      test: ['a key file that holds no key, or one that is nobody’s, stops the daemon and is left alone'],
    },
  },
  {
    name: '11-key-of-zeros',
    class: 11,
    mistake: 'a key of zeros is a key',
    edits: [{ file: 'src/identity/state-dir.ts', find: ' || bytes.every((byte) => byte === 0)', put: '' }],
    caughtBy: {
      file: 'test/unit/fail-closed.test.ts',
      test: ['a key file that holds no key, or one that is nobody’s, stops the daemon and is left alone'],
    },
  },
  {
    name: '11-no-key-of-base',
    class: 11,
    mistake: 'who does not know base’s key takes every membership',
    edits: [
      {
        file: 'src/identity/statements.ts',
        find: 'if (!genuine(baseKey, MEMBERSHIP_TAG, signed)) return err(badMembership(',
        put: 'if ((baseKey instanceof Uint8Array ? baseKey.length : 1) > 0 && !genuine(baseKey, MEMBERSHIP_TAG, signed)) return err(badMembership(',
      },
    ],
    caughtBy: {
      file: 'test/unit/fail-closed.test.ts',
      test: ['without base’s key nothing is taken for signed by base'],
    },
  },
  {
    name: '11-token-without-secret',
    class: 11,
    mistake: 'a join token without its secret is one',
    edits: [
      {
        file: 'src/identity/join-token.ts',
        find: 'if (wire.secret.length !== TOKEN_SECRET_LENGTH)',
        put: 'if (wire.secret.length !== TOKEN_SECRET_LENGTH && wire.secret.length > 0)',
      },
    ],
    caughtBy: { file: 'test/unit/identity-join-token.test.ts', test: ['a token that lacks something says what'] },
  },
  {
    name: '11-token-without-ca',
    class: 11,
    mistake: 'a join token that names no CA is taken, and then every CA',
    edits: [
      {
        file: 'src/identity/join-token.ts',
        find: 'if (wire.caKeyHash.length !== HASH_LENGTH)',
        put: 'if (wire.caKeyHash.length !== HASH_LENGTH && wire.caKeyHash.length > 0)',
      },
    ],
    caughtBy: {
      file: 'test/unit/fail-closed.test.ts',
      test: ['a token that names no base, no CA or no secret is none'],
    },
  },
  {
    name: '11-empty-secret-file',
    class: 11,
    mistake: 'a file that is to hold a secret and is empty counts as a secret',
    edits: [
      {
        file: 'src/config/secret-file.ts',
        find: "if (text.trim() === '') throw new SecretFileError('is empty');\n",
        put: '',
      },
    ],
    caughtBy: {
      file: 'test/unit/config-secrets.test.ts',
      test: ['a secret file is a small regular file that nobody else can change'],
    },
  },
  {
    name: '11-no-preshared-key',
    class: 11,
    mistake: 'a client that insists on post-quantum keys takes an offer without',
    edits: [
      {
        file: 'src/roles/client/held-session.ts',
        find: "if (key === undefined && expected.pq === 'require') {",
        put: "if (key === undefined && expected.pq === 'off') {",
      },
    ],
    caughtBy: {
      file: 'test/unit/offer.test.ts',
      test: ['an offer without a post-quantum key, or with one made for another'],
    },
  },
  {
    name: '20-path-of-the-caller',
    class: 20,
    mistake: 'programs are looked for in the PATH of whoever started the daemon',
    edits: [
      {
        file: 'dataplane/run.ts',
        find: 'export const findProgram = (name: string, directories = TOOL_DIRECTORIES): string | undefined =>\n',
        put: "export const findProgram = (name: string, directories: readonly string[] = (process.env.PATH ?? '').split(':').concat(TOOL_DIRECTORIES)): string | undefined =>\n",
      },
    ],
    caughtBy: { file: 'test/unit/programs.test.ts' },
  },
  {
    name: '20-working-directory',
    class: 20,
    mistake: 'the working directory is one of those that programs are looked for in',
    edits: [{ file: 'dataplane/run.ts', find: "  '/usr/local/sbin',\n", put: "  '.',\n  '/usr/local/sbin',\n" }],
    caughtBy: {
      file: PRIVILEGES,
      test: ['programs come from system directories whatever PATH says, and get two variables'],
    },
  },
  {
    name: '20-environment-for-programs',
    class: 20,
    mistake: 'programs get the daemon’s environment: LD_PRELOAD, and secrets',
    edits: [
      {
        file: 'dataplane/run.ts',
        find: "({ PATH: TOOL_DIRECTORIES.join(':'), LC_ALL: 'C' })",
        put: "({ ...(process.env as Record<string, string>), PATH: TOOL_DIRECTORIES.join(':'), LC_ALL: 'C' })",
      },
    ],
    caughtBy: {
      file: PRIVILEGES,
      test: ['programs come from system directories whatever PATH says, and get two variables'],
    },
  },
  {
    name: '20-run-by-name',
    class: 20,
    mistake: 'programs are started by their name, in a hostile directory with a hostile PATH',
    edits: [
      {
        file: 'dataplane/run.ts',
        find: 'return outputOf(tool, await start({ path, args, env, input, timeoutMs: timeout }));',
        put: "return outputOf(tool, await start({ path: tool, args, env: { ...env, PATH: process.env.PATH ?? '' }, input, timeoutMs: timeout }));",
      },
    ],
    caughtBy: { file: 'test/unit/programs.test.ts' },
  },
];
