import { err, ok, type Result } from '../model/result.js';
import { type Instant, instantOf } from '../model/time.js';

/** Minutes of a day, from 0; an end beyond 1440 is in the morning after. */
interface Span {
  readonly from: number;
  readonly to: number;
}

/** When an exit is lent, by the clock on the wall. */
export interface OpeningHours {
  /** As it was given. */
  readonly text: string;
  /** By day of the week, Sunday first. */
  readonly week: readonly (readonly Span[])[];
}

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const DAY = 24 * 60;
const MINUTE_MS = 60_000;
const WEEK_MS = 7 * DAY * MINUTE_MS;

/**
 * `08:00-23:00`, `22:00-06:00`, `08:00-23:00,Sat-Sun 10:00-24:00`: what names no days is for those that nothing else names.
 * The error ends a sentence that begins with the text.
 */
export function parseHours(text: string): Result<OpeningHours, string> {
  const named = new Map<number, Span[]>();
  const rest: Span[] = [];
  for (const part of text.split(',').map((one) => one.trim())) {
    const match = /^(?:([a-z]{3})(?:-([a-z]{3}))? +)?(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)$/i.exec(part);
    if (match === null) return err('is not like 08:00-23:00 or Mon-Fri 18:00-24:00,Sat-Sun 10:00-24:00');
    const [, first, last = first] = match;
    const from = Number(match[3]) * 60 + Number(match[4]);
    const to = Number(match[5]) * 60 + Number(match[6]);
    if (Number(match[4]) > 59 || Number(match[6]) > 59 || from >= DAY || to > DAY)
      return err(`has no such time: ${part}`);
    if (from === to) return err(`begins and ends at the same time: ${part}`);
    const span = { from, to: to > from ? to : to + DAY };
    if (first === undefined) {
      rest.push(span);
      continue;
    }
    const [start, end] = [first, last ?? first].map((day) => DAYS.indexOf(day.toLowerCase()));
    if (start === undefined || end === undefined || start < 0 || end < 0) return err(`has no such day: ${part}`);
    for (let day = start; ; day = (day + 1) % 7) {
      named.set(day, [...(named.get(day) ?? []), span]);
      if (day === end) break;
    }
  }
  return ok({ text, week: DAYS.map((_, day) => named.get(day) ?? rest) });
}

/** Whether that time zone is known, `Europe/Berlin`. */
export function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en-US', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** What the clock on the wall shows. */
interface WallClock {
  /** 2026-03-29. */
  readonly date: string;
  /** Sunday is 0. */
  readonly day: number;
  readonly minutes: number;
}

export function wallClock(zone: string, at: Instant): WallClock {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      weekday: 'short',
      ...({ year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit' } as const),
    });
    formats.set(zone, format);
  }
  const parts = new Map(format.formatToParts(at).map(({ type, value }) => [type, value]));
  const of = (type: Intl.DateTimeFormatPartTypes) => parts.get(type) ?? '';
  return {
    date: `${of('year')}-${of('month')}-${of('day')}`,
    day: DAYS.indexOf(of('weekday').toLowerCase()),
    minutes: Number(of('hour')) * 60 + Number(of('minute')),
  };
}

/** Whether the clock on the wall stands within the hours. An hour that a change of clocks repeats counts both times. */
export function isOpen(hours: OpeningHours, zone: string, at: Instant): boolean {
  const { day, minutes } = wallClock(zone, at);
  const within = (of: number, minute: number) =>
    (hours.week[of] ?? []).some(({ from, to }) => minute >= from && minute < to);
  return within(day, minutes) || within((day + 6) % 7, minutes + DAY);
}

/** When that changes next; undefined where it never does. Correct to the minute, across changes of clocks. */
export function nextChange(hours: OpeningHours, zone: string, at: Instant): Instant | undefined {
  const now = isOpen(hours, zone, at);
  const { day, minutes } = wallClock(zone, at);
  const wall = (day * DAY + minutes) * MINUTE_MS + (at % MINUTE_MS);
  const edges = hours.week.flatMap((spans, of) =>
    spans.flatMap(({ from, to }) => [from, to].map((edge) => (of * DAY + edge) * MINUTE_MS)),
  );
  // A change of clocks in between moves an edge by an hour, or by half of one on Lord Howe.
  const looks = edges
    .flatMap((edge) => [-60, -30, 0, 30, 60].map((shift) => edge - wall + shift * MINUTE_MS))
    .map((ahead) => ((ahead % WEEK_MS) + WEEK_MS) % WEEK_MS)
    .map((ahead) => at + (ahead === 0 ? WEEK_MS : ahead))
    .sort((a, b) => a - b);
  let before: number = at;
  for (const look of looks) {
    if (isOpen(hours, zone, instantOf(look)) !== now) return instantOf(turn(hours, zone, before, look, now));
    before = look;
  }
  return undefined;
}

/** The first minute between two moments, of which the first is as now and the second is not. */
function turn(hours: OpeningHours, zone: string, from: number, to: number, now: boolean): number {
  let [same, other] = [Math.floor(from / MINUTE_MS), Math.floor(to / MINUTE_MS)];
  while (other - same > 1) {
    const middle = Math.floor((same + other) / 2);
    if (isOpen(hours, zone, instantOf(middle * MINUTE_MS)) === now) same = middle;
    else other = middle;
  }
  return other * MINUTE_MS;
}
