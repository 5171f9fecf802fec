import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { hiddenSecrets, withoutSecrets } from '../../src/cli/secret-arguments.js';
import { flagOf, type OptionTable, ROLES, secretFileKey, variableOf } from '../../src/config/option.js';
import { OPTIONS } from '../../src/config/options.js';
import { parseConfig } from '../../src/config/parse.js';
import { type Reader, readerOf, readSecretFile, SecretFileError } from '../../src/config/secret-file.js';
import { dropSecretVariables, secretsIn } from '../../src/config/secrets.js';
import type { RawConfig } from '../../src/config/sources.js';
import { oneLine, vpnd } from '../support/command-line.js';

/** Tokens that differ in one letter. */
const token = (letter: string): string => `vpnd1${letter.repeat(60)}`;
const [FLAG, VARIABLE, FILE, CREDENTIAL] = [token('a'), token('b'), token('c'), token('d')];

const FILES: Readonly<Record<string, string>> = {
  '/flag': FLAG,
  '/variable': VARIABLE,
  '/file': FILE,
  '/run/credentials/join': CREDENTIAL,
};
const read = (path: string): string => {
  const text = FILES[path];
  if (text === undefined) throw Object.assign(new Error(path), { code: 'ENOENT' });
  return text;
};
const joinOf = (over: Partial<RawConfig>): string | undefined => {
  const parsed = parseConfig('exit', { flags: {}, env: {}, file: undefined, read, ...over });
  return parsed.ok ? parsed.value.join : parsed.error.message;
};
const toml = (text: string): RawConfig['file'] => ({ path: '/etc/vpnd/exit.toml', text });

t.test('every secret option has a file, a variable for it, and a place among the credentials', async (t) => {
  let secrets = 0;
  for (const role of ROLES)
    for (const [key, option] of Object.entries(OPTIONS[role] as OptionTable)) {
      if (!option.secret) continue;
      secrets++;
      const file = (OPTIONS[role] as OptionTable)[secretFileKey(key)];
      if (file === undefined) throw new Error(`${flagOf(option)} of ${role} has no file`);
      t.equal(flagOf(file), `${flagOf(option)}-file`);
      t.equal(variableOf(file), `${variableOf(option)}_FILE`);
      t.notOk(file.secret, 'a path is none');
      t.equal(option.default, undefined, 'nobody is given one that others have, too');
    }
  t.equal(secrets, 3);
});

t.test('a flag goes before a variable, that before the file, that before a credential', async (t) => {
  const CREDENTIALS_DIRECTORY = '/run/credentials';
  const file = toml('join-file = "/file"');
  const env = { CREDENTIALS_DIRECTORY, VPND_JOIN_FILE: '/variable' };
  t.equal(joinOf({ env, file, flags: { 'join-file': '/flag' } }), FLAG);
  t.equal(joinOf({ env, file, flags: { join: FLAG } }), FLAG);
  t.equal(joinOf({ env, file }), VARIABLE);
  t.equal(joinOf({ env: { CREDENTIALS_DIRECTORY, VPND_JOIN: VARIABLE }, file }), VARIABLE);
  t.equal(joinOf({ env: { CREDENTIALS_DIRECTORY }, file }), FILE);
  t.equal(joinOf({ env: { CREDENTIALS_DIRECTORY }, file: toml(`join = "${FILE}"`) }), FILE);
  t.equal(joinOf({ env: { CREDENTIALS_DIRECTORY } }), CREDENTIAL);
  t.equal(joinOf({ env: { CREDENTIALS_DIRECTORY: '/elsewhere' } }), undefined, 'systemd gives others, too');
  t.equal(joinOf({ env, secrets: { join: FLAG } }), FLAG, 'what was handed over goes before all');
  t.equal(joinOf({ env, secrets: {} }), undefined, 'and nothing else is looked at then');
});

t.test('each mistake with a secret is one line that does not repeat it', async (t) => {
  const canary = 'vpnd1canarycanary!';
  const complaints = [
    [
      { env: { VPND_JOIN: 'x', VPND_JOIN_FILE: '/variable' } },
      '--join-file (from VPND_JOIN_FILE): give either --join or --join-file, not both',
    ],
    [{ env: { VPND_JOIN_FILE: '/gone' } }, "--join-file (from VPND_JOIN_FILE): '/gone' does not exist"],
    [
      { env: { CREDENTIALS_DIRECTORY: '/run/credentials' }, read: () => canary },
      "--join (from the systemd credential 'join'): the value is not a join token (vpnd1… as `vpnd token create` prints it)",
    ],
    [
      { flags: { 'join-file': '/flag' }, read: () => canary },
      "--join-file: what '/flag' holds is not a join token (vpnd1… as `vpnd token create` prints it)",
    ],
    [
      { env: { VPND_JOIN: canary } },
      '--join (from VPND_JOIN): the value is not a join token (vpnd1… as `vpnd token create` prints it)',
    ],
  ] as const;
  for (const [over, expected] of complaints) {
    t.equal(joinOf(over), expected);
    t.notMatch(expected, 'canary');
  }
});

const dirFor = (t: Test): string => {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-secret-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
};
const ME = process.geteuid?.() ?? 0;
const reader: Reader = { mayOwn: [0, ME], groups: [0, process.getegid?.() ?? 0] };

t.test('a secret file is a small regular file that nobody else can change', async (t) => {
  const dir = dirFor(t);
  const warnings: string[] = [];
  const get = (path: string, who = reader): string => {
    try {
      return readSecretFile(path, who, (text) => warnings.push(text));
    } catch (thrown) {
      if (thrown instanceof SecretFileError) return `refused: ${thrown.message}`;
      return String((thrown as NodeJS.ErrnoException).code);
    }
  };
  const put = (name: string, text: string, mode: number): string => {
    const path = join(dir, name);
    writeFileSync(path, text);
    chmodSync(path, mode);
    return path;
  };
  t.equal(get(put('good', `${FLAG}\n`, 0o600)), FLAG, 'without the line end of an editor');
  t.equal(get(put('windows', `\ufeff${FLAG}\r\n`, 0o400)), FLAG);
  t.same(warnings, []);
  t.equal(get(put('open', FLAG, 0o644)), FLAG);
  t.match(warnings, [/open' can be read by other users of this machine \(mode 0644\); chmod 600 it$/]);
  for (const mode of [0o620, 0o602, 0o666])
    t.match(get(put('changeable', FLAG, mode)), /^refused: can be changed by other users \(mode 06[0-9]{2}\)/);
  t.match(
    get(put('theirs', FLAG, 0o600), { mayOwn: [4_242], groups: [] }),
    /^refused: belongs to user \d+, neither to root/,
  );
  t.equal(get(put('empty', '\n', 0o600)), 'refused: is empty');
  t.match(get(put('large', 'x'.repeat(65_537), 0o600)), /^refused: is larger than any secret \(64 KiB\)/);
  mkdirSync(join(dir, 'dir'));
  t.equal(get(join(dir, 'dir')), 'refused: is a directory where a file should be');
  t.equal(get('/dev/null'), 'refused: is not a regular file');
  t.equal(get(join(dir, 'gone')), 'ENOENT');
  symlinkSync(join(dir, 'good'), join(dir, 'link'));
  t.equal(get(join(dir, 'link')), FLAG, 'what a link leads to counts');
});

t.test('who called sudo may own the file, where root asks for it', async (t) => {
  t.same(readerOf({}).mayOwn, [0, ME]);
  t.same(readerOf({ SUDO_UID: '1000' }).mayOwn, ME === 0 ? [0, 0, 1000] : [0, ME]);
  t.same(readerOf({ SUDO_UID: 'root' }).mayOwn, [0, ME]);
  if (ME !== 0) return;
  const path = join(dirFor(t), 'token');
  writeFileSync(path, FLAG, { mode: 0o600 });
  chownSync(path, 1000, 1000);
  t.equal(
    readSecretFile(path, readerOf({ SUDO_UID: '1000' }), () => {}),
    FLAG,
  );
  t.throws(() => readSecretFile(path, readerOf({}), () => {}), /belongs to user 1000/);
});

t.test('secrets leave the environment and the command line', async (t) => {
  const env: Record<string, string | undefined> = { VPND_JOIN: FLAG, VPND_REGION: 'eu' };
  dropSecretVariables('client', env);
  t.same(env, { VPND_REGION: 'eu' });
  t.same(secretsIn('client', { join: FLAG, region: 'eu' }), { join: FLAG });
  t.same(hiddenSecrets(['client', '--join', FLAG, '--region', 'eu']), [
    'client',
    '--join',
    '[hidden]',
    '--region',
    'eu',
  ]);
  t.same(hiddenSecrets(['client', `--join=${FLAG}`]), ['client', '--join=[hidden]']);
  t.equal(hiddenSecrets(['client', '--join-file', '/x']), undefined);
  t.same(withoutSecrets(['client', '--join', FLAG, `--join=${FLAG}`, '--region', 'eu']), ['client', '--region', 'eu']);
});

t.test('a token that was typed in the place of something else is not printed back', async (t) => {
  const lines = [
    ['client', '--region', FLAG],
    [FLAG],
    ['token', 'revoke', FLAG],
    ['client', '--log-level', FLAG],
    ['status', '--role', FLAG],
  ];
  for (const line of lines) {
    const { status, out, err } = await vpnd(line);
    t.not(status, 0);
    t.match(err, oneLine);
    t.notMatch(out + err, FLAG, line.join(' ').replace(FLAG, 'TOKEN'));
  }
});

t.test('a token given by --join is neither in the arguments that /proc shows, nor in the help', async (t) => {
  const path = join(dirFor(t), 'show.mjs');
  const io = new URL('../../src/cli/io.js', import.meta.url).href;
  writeFileSync(
    path,
    `import { readFileSync } from 'node:fs';
     import { processIo } from ${JSON.stringify(io)};
     const io = processIo();
     const hid = io.hideArguments?.();
     console.log(JSON.stringify({ hid, argv: process.argv.slice(2), cmdline: readFileSync('/proc/self/cmdline', 'latin1') }));`,
  );
  const args = ['client', '--join', FLAG, '--state-dir', '/x'];
  const child = spawn(process.execPath, [path, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (piece) => {
    text += String(piece);
  });
  await new Promise((resolve) => child.once('close', resolve));
  const seen = JSON.parse(text);
  t.equal(seen.hid, true);
  t.same(seen.argv, ['client', '--join', '[hidden]', '--state-dir', '/x']);
  t.notMatch(seen.cmdline, FLAG.slice(0, 20));
  t.match(seen.cmdline, /^vpnd client --join \[hidden\] --state-dir \/x/);
  const help = await vpnd(['client', '--help'], { VPND_JOIN: FLAG });
  t.notMatch(help.out, FLAG);
});

t.test('--check reads a file, and says what it does not like about it', async (t) => {
  const path = join(dirFor(t), 'token');
  const said: string[] = [];
  const run = async (mode: number, args = ['--join-file', path]) => {
    writeFileSync(path, `${FLAG}\n`);
    chmodSync(path, mode);
    const { status, err } = await vpnd(['exit', '--check', ...args]);
    said.push(err);
    return { status, err };
  };
  t.same(await run(0o600), { status: 0, err: '' });
  t.match(await run(0o644), { status: 0, err: /^vpnd: warning: '.*token' can be read by other users.*\n$/ });
  t.match(await run(0o666), {
    status: 2,
    err: /^vpnd: --join-file: '.*token' can be changed by other users \(mode 0666\)/,
  });
  t.match(await run(0o600, ['--join', FLAG]), { status: 0, err: /^vpnd: warning: a secret was given as an argument/ });
  for (const err of said) t.notMatch(err, FLAG);
  t.notMatch(readFileSync('/proc/self/environ', 'latin1'), FLAG);
});
