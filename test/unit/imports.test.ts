import { readFileSync } from 'node:fs';
import t from 'tap';
import { type Import, importsIn, importsOfFile, sourcesIn } from '../support/lab-imports.js';

/**
 * model <- core <- {transport, store, obs, config, identity, dataplane} <- roles <- cli <- bin.
 * A source belongs to the rule with the longest folder that it lies in.
 */
interface Rule {
  readonly folder: string;
  /** Folders and files of this repository it may import, itself included without being named. */
  readonly may: readonly string[];
  /** Those it may import types from, and nothing that remains when compiled. */
  readonly mayTypes?: readonly string[];
  /** Packages by name, `node:` for the platform's modules, `*` for any package. */
  readonly packages: readonly string[];
  readonly because: string;
}

const ADAPTERS = ['src/transport', 'src/store', 'src/obs', 'src/config', 'src/identity', 'dataplane'];
const PROTOBUF = '@bufbuild/protobuf';

function adapter(folder: string, more: readonly string[], because: string): Rule {
  return { folder, may: ['src/core', 'src/model', ...more], packages: ['*', 'node:'], because };
}

const RULES: readonly Rule[] = [
  {
    folder: 'src/model',
    may: [],
    packages: ['ipaddr.js'],
    because:
      'everybody speaks this vocabulary, so it can depend on nobody; addresses are parsed by a library made for it',
  },
  {
    folder: 'src/core',
    may: ['src/model'],
    packages: [],
    because: 'a decision that could reach a socket, a file or the clock would not replay',
  },
  { folder: 'src/gen', may: [], packages: [PROTOBUF], because: 'generated from proto/, which knows nothing of us' },
  adapter('src/transport', ['src/gen'], 'the wire is its business, and only its and of those who sign for it'),
  adapter('src/identity', ['src/gen'], 'statements are signed in their wire form'),
  adapter('src/store', [], 'what is kept must survive a change of the wire contract'),
  adapter('src/obs', [], 'whoever observes must not be able to act'),
  adapter('src/config', [], 'a configuration is read before anything else exists'),
  adapter('dataplane', [], 'the kernel is told what to do in the words of the model'),
  {
    folder: 'src/roles',
    may: ['src/core', 'src/model', 'src/gen'],
    mayTypes: ADAPTERS.filter((folder) => folder !== 'dataplane'),
    packages: [PROTOBUF],
    because: 'a simulation runs the roles over twins, so everything that touches the world comes in as a port',
  },
  ...['base', 'supernode', 'exit', 'client'].map(
    (role): Rule => ({
      folder: `src/roles/${role}`,
      may: ['src/core', 'src/model', 'src/gen', 'src/roles/common', 'src/roles/ports.ts'],
      mayTypes: ADAPTERS.filter((folder) => folder !== 'dataplane'),
      packages: [PROTOBUF],
      because: 'roles meet over the wire and nowhere else',
    }),
  ),
  {
    folder: 'src/cli',
    may: ['src', 'dataplane'],
    packages: ['*', 'node:'],
    because: 'here the parts are put together',
  },
  {
    folder: 'bin',
    may: ['src/cli'],
    packages: ['node:'],
    because: 'the entry passes arguments on, and does nothing else',
  },
];

/** Single imports that break a rule with good reason. One that nobody needs any more fails the test. */
const EXCEPTIONS: readonly { readonly from: string; readonly to: string; readonly because: string }[] = [
  {
    from: 'src/roles',
    to: 'src/transport/stream-manager.ts',
    because: 'both levels of the overlay share one manager of streams, which gets its streams from a port',
  },
  ...['src/transport/streams/refusal.ts', 'src/transport/codec/refusal.ts'].map((to) => ({
    from: 'src/roles',
    to,
    because: 'how a refusal is worded belongs to the protocol, and is a translation without I/O',
  })),
  {
    from: 'src/roles',
    to: 'src/transport/codec/limits.ts',
    because: 'what is sent must keep the bounds that the other side checks: constants',
  },
  {
    from: 'src/roles/base',
    to: 'src/identity/join-token.ts',
    because: 'base hands out tokens in their text form: a function of its arguments',
  },
  {
    from: 'src/roles/base',
    to: 'src/identity/secret.ts',
    because: 'secrets are made and hashed in one place, from injected randomness',
  },
  {
    from: 'src/roles/base',
    to: 'src/identity/wire-roles.ts',
    because: 'role names have one translation to the wire: a table',
  },
  {
    from: 'src/roles/common/system-clock.ts',
    to: 'node:fs',
    because: 'the real clock, which counts time asleep, reads it from /proc; simulations bring another',
  },
];

const ROOT = process.cwd();
const product = sourcesIn(ROOT, ['src', 'dataplane', 'bin']).flatMap((file) => importsOfFile(ROOT, file));

function within(path: string, place: string): boolean {
  return path === place || path.startsWith(`${place}/`);
}

function ruleFor(file: string): Rule | undefined {
  return RULES.filter((rule) => within(file, rule.folder)).sort((a, b) => b.folder.length - a.folder.length)[0];
}

function allowed({ from, to, own, typeOnly }: Import): boolean {
  const rule = ruleFor(from);
  if (!rule) return false;
  if (!own) {
    if (to.startsWith('node:')) return rule.packages.includes('node:');
    return rule.packages.some((name) => name === '*' || within(to, name));
  }
  // A folder with rules of its own is not part of the one around it.
  if (within(to, rule.folder) && ruleFor(to) === rule) return true;
  return [...rule.may, ...(typeOnly ? (rule.mayTypes ?? []) : [])].some((place) => within(to, place));
}

function excepted({ from, to }: Import): boolean {
  return EXCEPTIONS.some((exception) => within(from, exception.from) && within(to, exception.to));
}

t.test('every import goes in the direction the architecture gives it', async (t) => {
  t.ok(product.length > 50, 'run from the root of the repository');
  const wrong = product
    .filter((each) => !allowed(each) && !excepted(each))
    .map((each) => `${each.from} imports ${each.to}, but ${ruleFor(each.from)?.because ?? 'lies where no rule is'}`);
  t.same(wrong, []);
  for (const { from, to } of EXCEPTIONS) {
    const needed = product.some((each) => within(each.from, from) && within(each.to, to) && !allowed(each));
    t.ok(needed, `the exception for ${from} to import ${to} is still needed`);
  }
});

t.test(
  'nothing but bin starts the command line, and no product code imports tests, faults or benchmarks',
  async (t) => {
    const fromCli = product.filter(({ from, to }) => within(to, 'src/cli') && !within(from, 'src/cli'));
    t.same(
      fromCli.filter(({ from }) => !within(from, 'bin')),
      [],
    );
    t.same(
      product.filter(({ to }) => ['test', 'chaos', 'bench'].some((folder) => within(to, folder))),
      [],
    );
  },
);

t.test('model and core name no module of the platform, not even for its types', async (t) => {
  const inner = product.filter(({ from }) => within(from, 'src/core') || within(from, 'src/model'));
  t.same(
    inner.filter(({ to, own }) => !own && (to.startsWith('node:') || !to.startsWith('ipaddr.js'))),
    [],
  );
});

t.test('imports are found in every form they have', async (t) => {
  const text = `
    import a, { type B } from './a.js';
    import type { C } from '../c.js';
    import { type D, type E } from 'd';
    export * from './e.js';
    export type { F } from './f.js';
    const g = () => import('./g.js');
    type H = import('./h.js').H;
    import './i.js';
    // import './comment.js'
    const text = "import './text.js'";
  `;
  t.same(
    importsIn('src/x/y.ts', text).map(({ to, typeOnly }) => `${to}${typeOnly ? ' type' : ''}`),
    [
      'src/x/a.ts',
      'src/c.ts type',
      'd type',
      'src/x/e.ts',
      'src/x/f.ts type',
      'src/x/g.ts',
      'src/x/h.ts type',
      'src/x/i.ts',
    ],
  );
  t.throws(() => importsIn('x.ts', 'import(name)'), /computed/);
});

t.test('rules refuse what they are there for', async (t) => {
  const judge = (from: string, to: string, typeOnly = false) =>
    allowed({ from, to, typeOnly, own: /^(src|dataplane|bin|test|chaos|bench)\//.test(to) });
  t.notOk(judge('src/model/a.ts', 'src/core/b.ts'));
  t.notOk(judge('src/core/a.ts', 'node:fs', true));
  t.notOk(judge('src/core/a.ts', 'src/store/b.ts', true));
  t.notOk(judge('src/store/a.ts', 'src/config/b.ts', true));
  t.notOk(judge('dataplane/a.ts', 'src/gen/b.ts'));
  t.notOk(judge('src/roles/exit/a.ts', 'src/roles/client/b.ts'));
  t.notOk(judge('src/roles/exit/a.ts', 'src/store/b.ts'));
  t.ok(judge('src/roles/exit/a.ts', 'src/config/types.ts', true));
  t.notOk(judge('src/obs/a.ts', 'src/cli/b.ts'));
  t.notOk(judge('src/cli/a.ts', 'chaos/lab/index.ts'));
  t.notOk(judge('src/elsewhere/a.ts', 'src/model/b.ts'), 'a new folder needs a rule');
});

t.test('the lock file installs from whatever registry is set, on every platform', async (t) => {
  interface Locked {
    readonly version?: string;
    readonly resolved?: string;
    readonly optionalDependencies?: Readonly<Record<string, string>>;
  }
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Record<string, Locked> };
  const addressed = Object.entries(packages).filter(([, { resolved }]) => resolved?.startsWith('http'));
  t.same(addressed, [], 'no download addresses');
  const absent = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      (name) => !packages[`${path}/node_modules/${name}`] && !packages[`node_modules/${name}`],
    ),
  );
  t.same(absent, [], 'npm ci refuses a lock file that leaves out the packages of other platforms');
});
