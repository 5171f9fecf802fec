import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import ts from 'typescript';
import { equalConstantTime } from '../../src/model/bytes.js';
import { suspiciousComparisons } from '../support/comparisons.js';
import { sourcesIn } from '../support/lab-imports.js';

const ROOT = process.cwd();

/** Those that are none of a secret with what somebody else sent. One that nobody makes any more fails the test. */
const EXCEPTIONS: readonly { readonly file: string; readonly text: RegExp; readonly because: string }[] = [
  {
    file: 'src/core/audit-chain.ts',
    text: /startsWith\((?:point|removed)\.hash/,
    because: 'hashes of the audit log are no secrets, and somebody may have written down the beginning of one',
  },
  { file: 'src/model/bytes.ts', text: /toBase64\(bytes\) === text/, because: 'a text is held against its own meaning' },
  { file: 'src/store/sqlite/wal.ts', text: /^log\.compare/, because: 'salts of a file that is read, no secrets' },
  {
    file: 'dataplane/devices.ts',
    text: /privateKey/,
    because: "what this daemon wants is held against what this kernel has: nobody else's words, and nobody who asks",
  },
  { file: 'dataplane/wireguard-state.ts', text: /presharedKey/, because: 'the same' },
];

t.test('secrets and byte strings are compared by equalConstantTime alone', async (t) => {
  const configPath = join(ROOT, 'tsconfig.json');
  const read = ts.readConfigFile(configPath, ts.sys.readFile);
  if (read.error !== undefined) {
    t.fail('run from the root of the repository');
    return;
  }
  const { options } = ts.parseJsonConfigFileContent(read.config, ts.sys, ROOT);
  const files = sourcesIn(ROOT, ['src', 'dataplane', 'bin']).filter((file) => !file.startsWith('src/gen/'));
  t.ok(files.length > 100);
  const found = suspiciousComparisons(ROOT, files, options);
  const excused = (one: (typeof found)[number]) =>
    EXCEPTIONS.find(({ file, text }) => file === one.file && text.test(one.text));
  t.same(
    found
      .filter((one) => excused(one) === undefined)
      .map(({ file, line, text, why }) => `${file}:${line} ${text}: ${why}`),
    [],
  );
  for (const exception of EXCEPTIONS)
    t.ok(
      found.some((one) => excused(one) === exception),
      `the exception in ${exception.file} is still needed`,
    );
});

t.test('the mistakes are found when they are made', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-comparisons-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const mistakes = [
    'export const a = (x: Uint8Array, y: Uint8Array) => x === y;',
    'export const b = (x: Uint8Array, y: Uint8Array | undefined) => y !== x;',
    'export const c = (x: Uint8Array, y: string) => toHex(x) === y;',
    'export const d = (x: { secret: string }, y: string) => x.secret === y;',
    'export const e = (presharedKey: string, y: string) => presharedKey.startsWith(y);',
    'export const f = (x: string[], privateKey: string) => x.includes(privateKey);',
    'export const g = (x: WireGuardPrivateKey, y: WireGuardPrivateKey) => x == y;',
    'export const h = (x: { equals(y: Uint8Array): boolean }, y: Uint8Array) => x.equals(y);',
    'export const i = (tokenSecret: string): number => { switch (tokenSecret) { default: return 1; } };',
  ];
  const fine = [
    'export const j = (x: Uint8Array | undefined) => x === undefined;',
    'export const k = (x: Uint8Array) => x.length === 32;',
    "export const l = (secret: string) => secret === '';",
    'export const m = (x: string, y: string) => x === y;',
  ];
  const head = [
    'declare const brand: unique symbol;',
    'type WireGuardPrivateKey = string & { readonly [brand]: true };',
    'declare function toHex(x: Uint8Array): string;',
  ];
  writeFileSync(join(dir, 'mistakes.ts'), [...head, ...mistakes, ...fine].join('\n'));
  const found = suspiciousComparisons(dir, ['mistakes.ts'], { strict: true, target: ts.ScriptTarget.ES2022 });
  t.same(
    found.map(({ line }) => line - head.length),
    mistakes.map((_, i) => i + 1),
  );
});

t.test('equalConstantTime reads all of both, wherever they differ', async (t) => {
  const reads = (different: number | undefined): number => {
    let count = 0;
    const counted = (bytes: Uint8Array): Uint8Array =>
      new Proxy(bytes, {
        get(target, key) {
          if (typeof key === 'string' && /^\d+$/.test(key)) count++;
          return Reflect.get(target, key, target);
        },
      });
    const [a, b] = [new Uint8Array(32).fill(7), new Uint8Array(32).fill(7)];
    if (different !== undefined) b[different] = 8;
    t.equal(equalConstantTime(counted(a), counted(b)), different === undefined);
    return count;
  };
  for (const different of [undefined, 0, 1, 15, 31]) t.equal(reads(different), 64);
  t.notOk(equalConstantTime(new Uint8Array(31), new Uint8Array(32)));
});
