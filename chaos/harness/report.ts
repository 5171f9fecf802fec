import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inWords, type Told } from './chronicle.js';
import { GROUPS, type Group } from './scenario.js';
import { plain, renderTimeline } from './timeline.js';

/** What the machine was, and what was run on it. */
export interface ReportHead {
  readonly machine: string;
  readonly command: string;
  readonly startedAt: Date;
  readonly seconds: number;
}

/** Writes a timeline for one scenario, and its data. */
export function writeScenario(directory: string, told: Told): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, `${told.id}.svg`), renderTimeline(told));
  writeFileSync(join(directory, `${told.id}.json`), `${JSON.stringify(told)}\n`);
}

/** Writes index.html over all of them; answers with its path. */
export function writeIndex(directory: string, all: readonly Told[], head: ReportHead): string {
  mkdirSync(directory, { recursive: true });
  const file = join(directory, 'index.html');
  writeFileSync(file, renderIndex(all, head));
  return file;
}

export function renderIndex(all: readonly Told[], { machine, command, startedAt, seconds }: ReportHead): string {
  const held = all.filter(({ complaints }) => complaints.length === 0).length;
  const groups = Object.entries(GROUPS).filter(([group]) => all.some(({ id }) => id.startsWith(group)));
  const rows = all.map((told) => {
    const { id, title, complaints } = told;
    const verdict = complaints.length === 0 ? 'held' : 'broken';
    const cells = [
      `<a href="#${id}">${id}</a>`,
      plain(title),
      verdict,
      `${told.seconds.toFixed(0)} s`,
      figuresOf(told),
    ];
    return `<tr class="${verdict}">${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`;
  });
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Chaos: ${held} of ${all.length} held</title><style>
body { font-family: sans-serif; max-width: 1120px; margin: 1em auto; padding: 0 1em; }
table { border-collapse: collapse; } td, th { border: 1px solid #ccc; padding: 2px 8px; text-align: left; }
tr.broken td { background: #fbe3e3; } pre.broken { background: #fbe3e3; padding: 6px; white-space: pre-wrap; }
img { max-width: 100%; }
</style></head><body>
<h1>Chaos: ${held} of ${all.length} scenarios held</h1>
<p>${plain(command)}, ${startedAt.toISOString()}, ${(seconds / 60).toFixed(1)} min. ${plain(machine)}.</p>
<p>Green: packets that came back through the tunnel; red: packets that did not. Solid lines are faults, dashed ones their
end; dots are what <code>vpnd events</code> says, on the row of the node that says it.</p>
<table><tr><th></th><th>scenario</th><th></th><th>took</th><th>figures</th></tr>
${rows.join('\n')}
</table>
${groups.map(([group, what]) => section(group as Group, what, all)).join('\n')}
</body></html>
`;
}

function section(group: Group, what: string, all: readonly Told[]): string {
  const inside = all.filter(({ id }) => id.startsWith(group));
  return `<h2>${group}: ${plain(what)}</h2>\n${inside.map(one).join('\n')}`;
}

function one(told: Told): string {
  const { id, title, holds, complaints } = told;
  const broken = complaints.length === 0 ? '' : `<pre class="broken">${complaints.map(plain).join('\n')}</pre>`;
  const log = complaints.length === 0 ? '' : ` <a href="${id}.log">what the daemons said</a>`;
  return `<h3 id="${id}">${id} ${plain(title)}</h3>
<p>${plain(holds)}</p>${broken}
<p>${figuresOf(told)}${log}</p>
<a href="${id}.svg"><img src="${id}.svg" alt="timeline of ${id}"></a>
${history(told)}`;
}

/** What happened and what nodes said of it, in one order. */
function history({ marks, events }: Told): string {
  const lines = [
    ...marks.map(({ atMs, kind, text }) => ({ atMs, who: kind === 'seen' ? 'seen' : 'story', text })),
    ...events.map(({ atMs, node, code, text }) => ({ atMs, who: node, text: `${code}: ${text}` })),
  ].sort((one, other) => one.atMs - other.atMs);
  const rows = lines.map(
    ({ atMs, who, text }) => `<tr><td>${inWords(atMs)}</td><td>${plain(who)}</td><td>${plain(text)}</td></tr>`,
  );
  return `<details><summary>in words</summary><table>${rows.join('\n')}</table></details>`;
}

const figuresOf = ({ figures }: Told): string =>
  figures.map(({ what, value }) => plain(`${what} ${value}`)).join(' · ');
