import t from 'tap';
import { isOpen, isTimeZone, nextChange, parseHours, wallClock } from '../../src/core/hours.js';
import { type Instant, instantOf } from '../../src/model/time.js';

const BERLIN = 'Europe/Berlin';
const at = (text: string): Instant => instantOf(Date.parse(text));
const shown = (moment: Instant | undefined): string | undefined => moment && new Date(moment).toISOString();

function hours(text: string) {
  const parsed = parseHours(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

t.test('one window for every day', async (t) => {
  const day = hours('08:00-23:00');
  t.notOk(isOpen(day, 'UTC', at('2026-01-07T07:59:59Z')));
  t.ok(isOpen(day, 'UTC', at('2026-01-07T08:00:00Z')));
  t.ok(isOpen(day, 'UTC', at('2026-01-07T22:59:59Z')));
  t.notOk(isOpen(day, 'UTC', at('2026-01-07T23:00:00Z')));
  t.equal(shown(nextChange(day, 'UTC', at('2026-01-07T12:34:56Z'))), '2026-01-07T23:00:00.000Z');
  t.equal(shown(nextChange(day, 'UTC', at('2026-01-07T23:00:00Z'))), '2026-01-08T08:00:00.000Z');
});

t.test('days that are named have what is said of them alone, the others the rest', async (t) => {
  const week = hours('08:00-23:00,Sat-Sun 10:00-24:00');
  t.ok(isOpen(week, 'UTC', at('2026-01-09T08:30:00Z')), 'Friday');
  t.notOk(isOpen(week, 'UTC', at('2026-01-10T08:30:00Z')), 'Saturday');
  t.ok(isOpen(week, 'UTC', at('2026-01-10T23:30:00Z')));
  t.equal(shown(nextChange(week, 'UTC', at('2026-01-10T12:00:00Z'))), '2026-01-11T00:00:00.000Z', 'closed at midnight');
  t.equal(shown(nextChange(week, 'UTC', at('2026-01-11T00:00:00Z'))), '2026-01-11T10:00:00.000Z');
  const only = hours('Fri 20:00-22:00');
  t.equal(shown(nextChange(only, 'UTC', at('2026-01-09T22:00:00Z'))), '2026-01-16T20:00:00.000Z', 'a week later');
  const around = hours('Sat-Mon 10:00-11:00');
  for (const [date, open] of [
    ['10', true],
    ['11', true],
    ['12', true],
    ['13', false],
  ] as const) {
    t.equal(isOpen(around, 'UTC', at(`2026-01-${date}T10:30:00Z`)), open, date);
  }
});

t.test('a night belongs to the day it begins on', async (t) => {
  const night = hours('Fri 22:00-06:00');
  t.ok(isOpen(night, 'UTC', at('2026-01-09T23:00:00Z')));
  t.ok(isOpen(night, 'UTC', at('2026-01-10T05:59:00Z')));
  t.notOk(isOpen(night, 'UTC', at('2026-01-10T06:00:00Z')));
  t.notOk(isOpen(night, 'UTC', at('2026-01-10T23:00:00Z')));
  t.equal(shown(nextChange(night, 'UTC', at('2026-01-09T23:00:00Z'))), '2026-01-10T06:00:00.000Z');
});

t.test('windows that touch do not close in between; a short break does', async (t) => {
  t.equal(
    shown(nextChange(hours('08:00-12:00,12:00-18:00'), 'UTC', at('2026-01-07T09:00:00Z'))),
    '2026-01-07T18:00:00.000Z',
  );
  const lunch = hours('08:00-12:00,12:05-18:00');
  t.equal(shown(nextChange(lunch, 'UTC', at('2026-01-07T09:00:00Z'))), '2026-01-07T12:00:00.000Z');
  t.equal(shown(nextChange(lunch, 'UTC', at('2026-01-07T12:00:00Z'))), '2026-01-07T12:05:00.000Z');
  t.equal(nextChange(hours('00:00-24:00'), 'UTC', at('2026-01-07T09:00:00Z')), undefined, 'always');
});

t.test('the clock on the wall counts, when it is changed, too', async (t) => {
  const day = hours('08:00-23:00');
  // Winter: an hour ahead of UTC. In the night to 29 March 2026 it is put forward.
  t.equal(shown(nextChange(day, BERLIN, at('2026-03-28T12:00:00Z'))), '2026-03-28T22:00:00.000Z');
  t.equal(shown(nextChange(day, BERLIN, at('2026-03-28T23:00:00Z'))), '2026-03-29T06:00:00.000Z');
  // And on 25 October back.
  t.equal(shown(nextChange(day, BERLIN, at('2026-10-24T22:00:00Z'))), '2026-10-25T07:00:00.000Z');
});

t.test(
  'a time that a change of clocks leaves out opens at that change; one it repeats is open both times',
  async (t) => {
    const gap = hours('02:30-05:00');
    t.equal(shown(nextChange(gap, BERLIN, at('2026-03-29T00:00:00Z'))), '2026-03-29T01:00:00.000Z');
    t.equal(shown(nextChange(gap, BERLIN, at('2026-03-29T01:30:00Z'))), '2026-03-29T03:00:00.000Z');
    const twice = hours('02:15-02:45');
    t.ok(isOpen(twice, BERLIN, at('2026-10-25T00:30:00Z')));
    t.ok(isOpen(twice, BERLIN, at('2026-10-25T01:30:00Z')));
    t.equal(shown(nextChange(twice, BERLIN, at('2026-10-25T00:30:00Z'))), '2026-10-25T00:45:00.000Z');
    t.equal(shown(nextChange(twice, BERLIN, at('2026-10-25T00:45:00Z'))), '2026-10-25T01:15:00.000Z');
  },
);

t.test('every change of a year is where a look at each minute finds it', async (t) => {
  for (const [zone, text] of [
    [BERLIN, '02:10-02:50,Sun 01:30-03:15,Mon-Tue 22:00-06:00'],
    ['Australia/Lord_Howe', '01:45-02:15,Sat 23:30-02:00'],
    ['Asia/Kathmandu', '07:00-07:01'],
  ] as const) {
    const week = hours(text);
    // The weeks around the changes of clocks of both halves of the earth.
    for (const start of ['2026-03-25T00:00:00Z', '2026-10-01T00:00:00Z', '2026-10-22T00:00:00Z']) {
      let last: number = at(start);
      let announced = nextChange(week, zone, instantOf(last));
      let open = isOpen(week, zone, instantOf(last));
      for (let moment = last + 60_000; moment < at(start) + 8 * 86_400_000; moment += 60_000) {
        const now = isOpen(week, zone, instantOf(moment));
        if (now === open) continue;
        if (shown(announced) !== shown(instantOf(moment))) {
          t.fail(
            `${zone} ${text}: from ${shown(instantOf(last))} ${shown(announced)}, not ${shown(instantOf(moment))}`,
          );
          return;
        }
        last = moment;
        open = now;
        announced = nextChange(week, zone, instantOf(moment));
      }
    }
    t.pass(`${zone} ${text}`);
  }
});

t.test('what is no hours is said', async (t) => {
  for (const text of [
    '',
    '8-23',
    '08:00',
    '08:00-25:00',
    '08:60-09:00',
    '24:00-08:00',
    'Foo 08:00-09:00',
    '08:00-08:00',
  ]) {
    t.notOk(parseHours(text).ok, JSON.stringify(text));
  }
  t.ok(parseHours('mon-fri 18:00-24:00, SAT-SUN 10:00-24:00').ok);
  t.ok(isTimeZone('Europe/Berlin'));
  t.notOk(isTimeZone('Europe/Atlantis'));
  t.match(wallClock('Pacific/Auckland', at('2026-01-06T23:30:00Z')), { date: '2026-01-07', day: 3, minutes: 750 });
});
