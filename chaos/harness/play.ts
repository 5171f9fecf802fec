import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Fleet, type OverlayNode, type PacketRecord } from '../overlay/index.js';
import { Chronicle, type Happening, inWords, type Told, type Traffic } from './chronicle.js';
import { foreignState, leaveForeignState, leftovers, metricsTrouble } from './look.js';
import { COMMON, LEASE_SECONDS } from './places.js';
import type { Scenario } from './scenario.js';
import { AGREEMENT_SECONDS, AS_IT_IS, CONVERGENCE_SECONDS, type Conditions, Story } from './story.js';
import { Underlay } from './underlay.js';

/** A story that takes longer hangs. */
const STORY_LIMIT_MS = 300_000;
/** Everybody is there to be told, so no lease has to run out for it: less than what is left of one at any time. */
const REMOVAL_SECONDS = (LEASE_SECONDS * 2) / 3 - 10;
/** A gap is told from here on. */
const GAP_MS = 400;
/** For so long no traffic may stand still on a lossy line whose path is healthy. */
const STILL_MS = 1000;
/** The last lines of a daemon, kept when something did not hold. */
const LOG_LINES = 150;

/**
 * Plays one scenario in an overlay of its own, from the first process to the last: builds it, tells the story, looks at
 * what must hold of every scenario, ends every session and looks at what is left. Never rejects: what went wrong is among
 * the complaints.
 */
export async function play(scenario: Scenario, directory: string, conditions = AS_IT_IS): Promise<Told> {
  const began = performance.now();
  const { id, title, holds } = scenario;
  let chronicle = new Chronicle();
  const traffic: Traffic[] = [];
  const events: Happening[] = [];
  let fleet: Fleet | undefined;
  try {
    const built = await Fleet.build({ ...(scenario.place ?? COMMON), lab: { name: `chaos-${id.toLowerCase()}` } });
    fleet = built;
    await scenario.prepared?.(built);
    await built.startAll();
    await setLines(built, conditions);
    const nodes = fleet.nodes.filter(({ role }) => role !== 'base');
    await Promise.all(nodes.map(leaveForeignState));
    const foreign = await Promise.all(nodes.map(foreignState));
    const names = await fleet.names();
    const underlay = await Underlay.record(fleet);
    chronicle = new Chronicle();
    const story = new Story(fleet, names, chronicle, underlay, conditions);
    const attempt = (what: string, act: () => Promise<unknown>) => attempted(chronicle, what, act);

    const told = await attempt('the story', () => inTime(scenario.story(story), STORY_LIMIT_MS * conditions.patience));
    if (told) await attempt('at the end', () => story.agrees());
    const records = await endTraffic(story, chronicle, traffic);
    judgeLosses(story, chronicle, records, conditions);
    const { frames, trouble } = await underlay.stop(story.protectedSince, Date.now() / 1000);
    chronicle.figure('frames looked at', String(frames));
    for (const one of trouble) chronicle.complain(one);
    events.push(...(await eventsOf(fleet, names, chronicle)));
    if (told) await attempt('after vpnd down', () => ended(built, story));
    const after = await Promise.all(nodes.map((node) => foreignState(node).catch((thrown) => String(thrown))));
    nodes.forEach((node, i) => {
      if (after[i] !== foreign[i])
        chronicle.complain(`${node.name}: what is not ours has changed, from ${foreign[i]} to ${after[i]}`);
    });
  } catch (thrown) {
    chronicle.complain(thrown instanceof Error ? thrown.message : String(thrown));
  } finally {
    if (fleet !== undefined && chronicle.complaints.length > 0) keepLogs(fleet, join(directory, `${id}.log`));
    await fleet?.close();
  }
  const { marks, complaints, figures } = chronicle;
  return { id, title, holds, complaints, marks, traffic, events, figures, seconds: (performance.now() - began) / 1000 };
}

/** False when it failed, which is told. */
async function attempted(chronicle: Chronicle, what: string, act: () => Promise<unknown>): Promise<boolean> {
  try {
    await act();
    return true;
  } catch (thrown) {
    chronicle.complain(`${what}: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
    return false;
  }
}

/** Delay and loss, one way, at the routers of all clients. */
async function setLines(fleet: Fleet, { line }: Conditions): Promise<void> {
  if (line === undefined) return;
  for (const { name } of fleet.clients) {
    for (const device of ['eth0', 'lan0']) await fleet.home(name).router.delay(line.delayMs, device, line.lossPercent);
  }
}

async function inTime(story: Promise<void>, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`longer than ${limitMs / 1000} s`)), limitMs);
  });
  try {
    await Promise.race([story, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function endTraffic(story: Story, chronicle: Chronicle, into: Traffic[]): Promise<Map<string, PacketRecord>> {
  const records = new Map<string, PacketRecord>();
  for (const [client, train] of story.trains) {
    const record = await train.stop();
    records.set(client, record);
    into.push({
      client,
      everyMs: record.raw.everyMs,
      sentMs: record.raw.sentAt.map((at) => Math.round(chronicle.since(at))),
      answeredMs: record.raw.answeredAt.map((at) => (at === null ? null : Math.round(chronicle.since(at)))),
    });
    const gaps = record.gapsOver(GAP_MS).map(({ from, to }) => to - from);
    chronicle.figure(`${client}: lost`, `${record.lost} of ${record.sent}`);
    chronicle.figure(`${client}: longest gap`, inWords(Math.max(record.longestGap(), 0)));
    if (gaps.length > 1) chronicle.figure(`${client}: gaps over ${GAP_MS} ms`, String(gaps.length));
  }
  return records;
}

/** Where the line itself loses packets, or the machine stands still, what counts is that traffic never does for long. */
function judgeLosses(
  story: Story,
  chronicle: Chronicle,
  records: ReadonlyMap<string, PacketRecord>,
  { line, patience }: Conditions,
): void {
  for (const { client, fromMs, untilMs, why } of story.expectations) {
    const record = records.get(client);
    // What was sent in the last moments may still be on its way.
    const end = Math.min(untilMs ?? Number.POSITIVE_INFINITY, chronicle.since(record?.raw.sentAt.at(-1) ?? 0) - 1000);
    const lost = record?.lostBetween(chronicle.monotonic(fromMs), chronicle.monotonic(end));
    if (line !== undefined) {
      const gap = record?.longestGap(chronicle.monotonic(fromMs), chronicle.monotonic(end)) ?? Number.POSITIVE_INFINITY;
      if (gap > STILL_MS * patience) chronicle.complain(`${client} heard nothing for ${inWords(gap)}: ${why}`);
    } else if (lost === undefined) chronicle.complain(`${client} was to lose nothing, and sent nothing`);
    else if (lost > 0) chronicle.complain(`${client} lost ${lost} packets, and was to lose none: ${why}`);
  }
}

/** Every client goes down, and nothing is left anywhere: kernels first, then what daemons say of themselves. */
async function ended(fleet: Fleet, story: Story): Promise<void> {
  for (const { name, api } of fleet.clients) {
    await story.eventually(`${name} goes down`, () => api.down().then(() => ''), AGREEMENT_SECONDS);
  }
  const began = performance.now();
  await story.eventually(
    'nothing is left',
    async () => (await leftovers(fleet)).slice(0, 8).join('; '),
    REMOVAL_SECONDS,
  );
  story.figure('nothing left after vpnd down', inWords(performance.now() - began));
  await story.eventually('/metrics agrees', async () => (await metricsTrouble(fleet)).join('; '), CONVERGENCE_SECONDS);
}

/** What nodes have on record; ids become names. One that does not answer has nothing to say. */
async function eventsOf(
  fleet: Fleet,
  names: ReadonlyMap<string, string>,
  chronicle: Chronicle,
): Promise<readonly Happening[]> {
  const named = (text: string) =>
    [...names].reduce((said, [id, name]) => said.replaceAll(new RegExp(`${id.slice(0, 8)}\\w*…?`, 'g'), name), text);
  const found = await Promise.all(
    fleet.nodes.map(async ({ name, api }) => {
      const events = await api.events(0).catch(() => []);
      return events.map(({ atMs, code, text }) => ({
        node: name,
        atMs: chronicle.sinceWall(Number(atMs)),
        code,
        text: named(text),
      }));
    }),
  );
  return found.flat().filter(({ atMs }) => atMs >= 0);
}

function keepLogs(fleet: Fleet, file: string): void {
  const said = ({ name, process }: OverlayNode) => [`--- ${name}`, ...process.lines().slice(-LOG_LINES), ''];
  const lines = fleet.nodes.flatMap((node) => {
    try {
      return said(node);
    } catch {
      return [`--- ${node.name} was not started`, ''];
    }
  });
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, lines.join('\n'));
}
