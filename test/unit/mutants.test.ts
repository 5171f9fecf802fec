import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ATTACKS_BY_NAME, CLASSES } from '../mutants/classes.js';
import { MUTANTS } from '../mutants/index.js';
import { ATTACKS, edited, editsByFile } from '../mutants/mutant.js';

const ROOT = process.cwd();
const read = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

t.test('every mistake that is made on purpose still fits the source, in one place', async (t) => {
  t.ok(MUTANTS.length > 0);
  t.equal(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length, 'each has a name of its own');
  for (const mutant of MUTANTS) {
    t.match(mutant.name, new RegExp(`^${String(mutant.class).padStart(2, '0')}-[a-z0-9-]+$`), 'named after its class');
    t.ok(mutant.edits.length > 0, mutant.name);
    for (const [file, edits] of editsByFile(mutant)) {
      t.doesNotThrow(() => edited(file, read(file), edits), `${mutant.name}: ${file}`);
      t.ok(
        edits.every(({ find, put }) => find !== put),
        `${mutant.name} changes something`,
      );
    }
    t.ok(existsSync(join(ROOT, mutant.caughtBy.file)), mutant.caughtBy.file);
  }
});

t.test('every class of mistakes and every attack on the network has one', async (t) => {
  const made = new Set(MUTANTS.map((mutant) => mutant.class));
  const wanted = [...Object.keys(CLASSES).map(Number), ...ATTACKS];
  t.equal(wanted.length, 36);
  t.same(
    wanted.filter((one) => !made.has(one)),
    [],
  );
  t.same(Object.keys(ATTACKS_BY_NAME), [...ATTACKS]);
});

t.test('docs/security.md names each with its tests', async (t) => {
  const text = read('docs/security.md');
  const rowOf = (name: string) => text.split('\n').find((line) => line.startsWith('|') && line.includes(`| ${name} |`));
  for (const [id, { name, known }] of [...Object.entries(CLASSES), ...Object.entries(ATTACKS_BY_NAME)]) {
    const row = rowOf(name) ?? '';
    t.ok(row !== '', `there is a row for ${name}`);
    t.ok(row.includes(known), `${name}: ${known}`);
    const tests = MUTANTS.filter((mutant) => String(mutant.class) === id).map(({ caughtBy }) => caughtBy.file);
    for (const file of new Set(tests)) {
      const short = file.slice(file.lastIndexOf('/') + 1).replace(/\.ts$/, '');
      t.ok(row.includes(short), `${name}: ${short}`);
    }
  }
});
