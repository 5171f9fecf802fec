import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { OPTIONS } from '../../src/config/options.js';
import { secretsIn } from '../support/secret-patterns.js';

const ROOT = process.cwd();
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

/** The values that implementers check their own program against; they stand there, and must not stand anywhere else. */
const VECTORS = 'docs/protocol.md';

/** Files below these, as paths from the root. */
const everythingIn = (...names: readonly string[]): readonly string[] =>
  names.flatMap((name) => {
    if (!statSync(join(ROOT, name)).isDirectory()) return [name];
    return readdirSync(join(ROOT, name)).flatMap((entry) => everythingIn(`${name}/${entry}`));
  });

const complaints = (files: readonly string[]): readonly string[] =>
  files.flatMap((file) =>
    secretsIn(read(file))
      .filter(() => file !== VECTORS)
      .map(({ what, line, text }) => `${file}:${line}: ${what}: ${text.slice(0, 20)}…`),
  );

t.test('no source, document or example holds a key, a token or a password', async (t) => {
  const files = [
    ...everythingIn('src', 'dataplane', 'bin', 'chaos', 'scripts', 'docs', 'deploy', 'proto'),
    ...readdirSync(ROOT).filter((name) => statSync(join(ROOT, name)).isFile()),
  ];
  t.ok(files.length > 250, `${files.length} files`);
  t.same(complaints(files), []);
});

t.test('the published examples of the protocol are no keys of the program', async (t) => {
  const vectors = secretsIn(read(VECTORS)).map(({ text }) => text);
  t.ok(vectors.length > 5);
  const program = everythingIn('src', 'dataplane', 'bin', 'deploy', 'scripts').map(
    (file) => [file, read(file)] as const,
  );
  for (const vector of vectors)
    t.same(
      program.filter(([, text]) => text.includes(vector)).map(([file]) => file),
      [],
      vector.slice(0, 20),
    );
});

t.test('the package holds the program and its documents, and nothing of whoever packs it', async (t) => {
  const out = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts', '--offline'], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [packed] = JSON.parse(out) as { files: { path: string }[] }[];
  const files = (packed?.files ?? []).map(({ path }) => path);
  t.ok(files.length > 40, `${files.length} files`);
  const expected =
    /^(?:dist\/(?:bin|src|dataplane)\/.+\.js(?:\.map)?|proto\/.+\.proto|docs\/.+\.(?:md|svg)|deploy\/.+\.(?:toml|service|socket|md)|[A-Z]+(?:\.md)?|package\.json)$/;
  t.same(
    files.filter((file) => !expected.test(file)),
    [],
    'files of another kind',
  );
  t.same(complaints(files.filter((file) => !file.endsWith('.map'))), []);
});

t.test('no option that is a secret has a value of its own, and none is a password', async (t) => {
  const all = Object.values(OPTIONS).flatMap((table) => Object.values(table));
  const secrets = all.filter(({ secret }) => secret);
  t.ok(secrets.length > 0);
  t.same(
    secrets.filter((option) => 'default' in option && option.default !== undefined).map(({ name }) => name),
    [],
  );
  t.same(
    all.filter(({ name }) => /passw|pin$|user-?name/i.test(name)).map(({ name }) => name),
    [],
  );
});

t.test('a secret that somebody leaves is found', async (t) => {
  const left = [
    "const KEY = 'QJ8nUK3n5r2Zf0Jc7rVb1mXw9Ty4Ls6Dg8Hk0Pq2Rs4=';",
    "hash = '3fcad5956ac5330135b0dbead743d2b84e4b5f433fcad5956ac5330135b0dbea'",
    'Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)',
    "const adminPassword = 'changeme1';",
    '-----BEGIN EC PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49',
    'join = "vpnd1bikquedcmfzwkltfpbqw24dmmuxg64thcdudsera4dq6fy7e4xt"',
  ];
  for (const text of left) t.not(secretsIn(text).length, 0, text);
  const fine = [
    "const secret = process.env.SECRET ?? '';",
    'sha256(token.secret)',
    'password: "<yours>"',
    '2026, 11, 20',
  ];
  for (const text of fine) t.same(secretsIn(text), [], text);
});
