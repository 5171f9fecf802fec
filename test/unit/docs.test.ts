import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import t from 'tap';
import type { Io } from '../../src/cli/io.js';
import { main } from '../../src/cli/main.js';
import { EVENT_CODES } from '../../src/model/event.js';
import { HOST_METRICS, METRICS } from '../../src/obs/metrics.js';

/** What the documents say of the code is held to the code. */
const ROOT = process.cwd();
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

t.test('docs/dependencies.md names every dependency with its licence, and no other', async (t) => {
  const { dependencies, devDependencies } = JSON.parse(read('package.json')) as Manifest;
  const text = read('docs/dependencies.md');
  for (const [heading, named] of [
    ['At run time', dependencies],
    ['For development', devDependencies],
  ] as const) {
    const rows = [...section(text, heading).matchAll(/^\| `([^`]+)` \| ([^|]+) \|/gm)];
    const documented = Object.fromEntries(rows.map(([, name = '', licence = '']) => [name, licence.trim()]));
    const real = Object.fromEntries(
      Object.keys(named).map((name) => [
        name,
        (JSON.parse(read(`node_modules/${name}/package.json`)) as { license: string }).license,
      ]),
    );
    t.same(documented, real, heading);
    t.equal(rows.length, Object.keys(documented).length, 'none twice');
  }
});

t.test('every relative link leads somewhere', async (t) => {
  const broken: string[] = [];
  const files = documents();
  t.ok(files.includes('README.md') && files.includes('docs/runbook.md'));
  for (const file of files) {
    for (const target of linksIn(read(file))) {
      if (/^[a-z]+:/.test(target)) continue;
      const [path = '', anchor] = target.split('#');
      const found = path === '' ? file : normalize(join(dirname(file), path));
      if (!existsSync(join(ROOT, found))) broken.push(`${file}: ${target}`);
      else if (anchor !== undefined && !anchorsOf(read(found)).has(anchor)) broken.push(`${file}: ${target}`);
    }
  }
  t.same(broken, []);
});

t.test('every vpnd command in the documents exists, with every flag', async (t) => {
  const wrong: string[] = [];
  let seen = 0;
  for (const file of ['README.md', 'docs/runbook.md', 'docs/security.md', 'docs/architecture.md', 'CONTRIBUTING.md']) {
    for (const line of commandsIn(read(file))) {
      seen++;
      const problem = await problemWith(line);
      if (problem !== undefined) wrong.push(`${file}: ${line}: ${problem}`);
    }
  }
  t.same(wrong, []);
  t.ok(seen > 40, `${seen} commands were looked at`);
  t.match(await problemWith('vpnd token destroy'), /no command/, 'a wrong one would be noticed');
  t.match(await problemWith('vpnd up --fast'), /no flag --fast/);
});

t.test('the runbook names every metric, and no other', async (t) => {
  const real: string[] = [...Object.values(METRICS), ...Object.values(HOST_METRICS)].map(({ name }) => name);
  const text = section(read('docs/runbook.md'), 'Metrics and alerts');
  const missing = real.filter((name) => !text.includes(`\`${name}`));
  t.same(missing, [], 'each is in the table');
  const rules = /```yaml\n([\s\S]*?)```/.exec(text)?.[1] ?? '';
  const used = [...rules.matchAll(/\b([a-z]+(?:_[a-z0-9]+)+)\b/g)].map(([, name = '']) => name.replace(/_bucket$/, ''));
  const unknown = used.filter((name) => !real.includes(name) && name !== 'histogram_quantile');
  t.same(unknown, [], 'each in an alert exists');
  t.ok(used.length > 8);
});

t.test('the runbook says what every event means, and of no other', async (t) => {
  const rows = section(read('docs/runbook.md'), 'What events mean').match(/^\|.*$/gm) ?? [];
  const documented = rows.slice(2).flatMap((row) => [...(row.split('|')[1] ?? '').matchAll(/`([a-z-]+)`/g)]);
  t.same(documented.map(([, code = '']) => code).sort(), [...EVENT_CODES].sort());
});

t.test('the runbook names every field of a log line', async (t) => {
  const source = /export interface LogFields \{([\s\S]*?)\n\}/.exec(read('src/core/ports/log.ts'))?.[1] ?? '';
  const fields = [...source.matchAll(/readonly (\w+)\?/g)].map(([, name = '']) => name);
  t.ok(fields.length > 10);
  const text = section(read('docs/runbook.md'), 'Logs');
  t.same(
    fields.filter((name) => !text.includes(`\`${name}\``)),
    [],
  );
});

/** From a heading to the next of its level. */
function section(text: string, heading: string): string {
  const start = text.indexOf(`\n## ${heading}\n`);
  if (start < 0) throw new Error(`no section is called ${heading}`);
  const end = text.indexOf('\n## ', start + 1);
  return text.slice(start, end < 0 ? undefined : end);
}

function documents(): string[] {
  const inDocs = readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' }).map((name) => `docs/${name}`);
  const atRoot = readdirSync(ROOT);
  return [...atRoot, ...inDocs, 'chaos/lab/README.md']
    .filter((name) => name.endsWith('.md'))
    .map((name) => relative(ROOT, join(ROOT, name)));
}

const withoutCode = (text: string): string => text.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, 'code');

function linksIn(text: string): string[] {
  return [...withoutCode(text).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target);
}

/** As GitHub makes them of headings. */
function anchorsOf(text: string): ReadonlySet<string> {
  const headings = text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/^#+ (.+)$/gm);
  return new Set(
    [...headings].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
        .replace(/[^\p{L}\p{N} _-]/gu, '')
        .trim()
        .replaceAll(' ', '-'),
    ),
  );
}

/** Lines of code blocks and pieces of code in the text that run vpnd. */
function commandsIn(text: string): string[] {
  const blocks = [...text.matchAll(/^```[a-z]*\n([\s\S]*?)^```/gm)].flatMap(([, block = '']) => block.split('\n'));
  const inline = [...text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code);
  return [...blocks, ...inline]
    .map((line) => line.replace(/(^|\s)#.*$/, '').trim())
    .filter((line) => /^vpnd( |$)/.test(line));
}

/** Help texts by command words; asking twice costs. */
const helps = new Map<string, string>();

async function helpOf(words: readonly string[]): Promise<string> {
  const key = words.join(' ');
  const known = helps.get(key);
  if (known !== undefined) return known;
  let text = '';
  const io: Io = {
    out: (piece) => {
      text += piece;
    },
    err: () => {},
    env: {},
    interactive: false,
    exitNow: () => {
      throw new Error('no command ends the process for a help text');
    },
    onSignal: () => () => {},
  };
  const status = await main([...words, '--help'], io);
  helps.set(key, status === 0 ? text : '');
  return status === 0 ? text : '';
}

async function problemWith(line: string): Promise<string | undefined> {
  const words = line.split(/\s+/).slice(1);
  const command: string[] = [];
  for (const word of words) {
    if (!/^[a-z]+$/.test(word)) break;
    const commands = /\nCommands:\n([\s\S]*?)(?:\n\n|$)/.exec(await helpOf(command))?.[1] ?? '';
    if (commands === '') break;
    if (!new RegExp(`^  ${word}\\b`, 'm').test(commands)) return `there is no command ${[...command, word].join(' ')}`;
    command.push(word);
  }
  const help = await helpOf(command);
  for (const word of words) {
    const flag = /^(--[a-z0-9-]+)/.exec(word)?.[1];
    if (flag !== undefined && !new RegExp(`(^|\\s)${flag}(?![a-z0-9-])`, 'm').test(help)) {
      return `${command.join(' ')} has no flag ${flag}`;
    }
  }
  return undefined;
}
