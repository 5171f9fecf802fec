import t from 'tap';
import type { PeerId } from '../../src/model/ids.js';
import { type LinePlan, type LineView, planLines } from '../../src/roles/common/line-policy.js';

const IDLE: LineView = { at: undefined, up: false, running: false };
const DOWN: LineView = { at: undefined, up: false, running: true };
const up = (at: string): LineView => ({ at: at as PeerId, up: true, running: true });
const dialing = (at: string): LineView => ({ at: at as PeerId, up: false, running: true });

/** `abc`: supernodes best first; a capital letter drains. */
const directory = (text: string) =>
  [...text].map((letter) => ({ id: letter.toLowerCase() as PeerId, draining: letter !== letter.toLowerCase() }));
const told = ({ run, targets, leave }: LinePlan) => (run ? `${leave ? 'leave ' : ''}${targets.join('')}` : 'rest');

const CASES: readonly {
  readonly name: string;
  readonly supernodes: string;
  readonly homes?: string;
  readonly want?: boolean;
  /** Of last choice. */
  readonly last?: string;
  readonly lines: readonly [LineView, LineView];
  readonly plans: readonly [string, string];
}[] = [
  { name: 'at the start one line will do', supernodes: 'abc', lines: [IDLE, IDLE], plans: ['abc', 'rest'] },
  { name: 'and stays so', supernodes: 'abc', lines: [up('b'), IDLE], plans: ['abc', 'rest'] },
  { name: 'nobody is dialled who drains', supernodes: 'bcA', lines: [DOWN, IDLE], plans: ['bc', 'rest'] },
  { name: 'but homes are', supernodes: 'bcA', homes: 'a', lines: [DOWN, IDLE], plans: ['abc', 'rest'] },
  { name: 'a second one wanted', supernodes: 'abc', want: true, lines: [up('a'), IDLE], plans: ['abc', 'bc'] },
  {
    name: 'not where there is one supernode',
    supernodes: 'a',
    want: true,
    lines: [up('a'), IDLE],
    plans: ['a', 'rest'],
  },
  {
    name: 'neither is dialled where the other goes',
    supernodes: 'abc',
    want: true,
    lines: [dialing('a'), dialing('b')],
    plans: ['ac', 'bc'],
  },
  { name: 'two homes', supernodes: 'abc', homes: 'cb', lines: [up('a'), IDLE], plans: ['cba', 'cb'] },
  { name: 'two homes held', supernodes: 'abc', homes: 'cb', lines: [up('b'), up('c')], plans: ['b', 'c'] },
  {
    name: 'one lost: only to its home, as the other takes new sessions',
    supernodes: 'abc',
    homes: 'cb',
    lines: [DOWN, up('c')],
    plans: ['b', 'cba'],
  },
  {
    name: 'one lost, and two wanted: elsewhere too',
    supernodes: 'abc',
    homes: 'cb',
    want: true,
    lines: [DOWN, up('c')],
    plans: ['ba', 'cba'],
  },
  {
    name: 'the home not reached: the first is elsewhere, the second tries',
    supernodes: 'abc',
    homes: 'a',
    lines: [up('b'), IDLE],
    plans: ['abc', 'a'],
  },
  {
    name: 'the home reached again: the other rests',
    supernodes: 'abc',
    homes: 'a',
    lines: [up('b'), up('a')],
    plans: ['rest', 'a'],
  },
  {
    name: 'the home drains: a line for new sessions',
    supernodes: 'bcA',
    homes: 'a',
    lines: [up('a'), IDLE],
    plans: ['abc', 'bc'],
  },
  {
    name: 'it drains, and nothing else is there',
    supernodes: 'A',
    homes: 'a',
    lines: [up('a'), IDLE],
    plans: ['a', 'rest'],
  },
  {
    name: 'it drains and is nobody’s home: gone once another is there',
    supernodes: 'bcA',
    lines: [up('a'), up('b')],
    plans: ['rest', 'bc'],
  },
  {
    name: 'both homes drain: the lesser gives way',
    supernodes: 'cAB',
    homes: 'ab',
    lines: [up('a'), up('b')],
    plans: ['ac', 'leave c'],
  },
  {
    name: 'the lesser of two others drains too: the one that takes new sessions is held',
    supernodes: 'cAB',
    homes: 'abc',
    lines: [up('a'), up('c')],
    plans: ['a', 'c'],
  },
  {
    name: 'two that are nobody’s home: the better stays',
    supernodes: 'abc',
    lines: [up('b'), up('a')],
    plans: ['rest', ''],
  },
  {
    name: 'a home that nobody has heard of is not dialled, nor left',
    supernodes: 'bc',
    homes: 'x',
    lines: [up('x'), IDLE],
    plans: ['bc', 'bc'],
  },
  {
    name: 'the one of last choice comes last',
    supernodes: 'abc',
    homes: 'a',
    want: true,
    last: 'b',
    lines: [up('a'), IDLE],
    plans: ['acb', 'cb'],
  },
  {
    name: 'and is left for another that turns up',
    supernodes: 'Abc',
    homes: 'a',
    want: true,
    last: 'b',
    lines: [up('a'), up('b')],
    plans: ['ac', 'leave cb'],
  },
  {
    name: 'but not for nobody, nor where it is a home',
    supernodes: 'Abc',
    homes: 'ab',
    want: true,
    last: 'b',
    lines: [up('a'), up('b')],
    plans: ['ac', 'bc'],
  },
];

t.test('where two lines belong', (t) => {
  for (const { name, supernodes, homes = '', want = false, last = '', lines, plans } of CASES) {
    const input = {
      homes: [...homes] as PeerId[],
      supernodes: directory(supernodes),
      lines,
      wantSecond: want,
      lastChoice: [...last] as PeerId[],
    };
    t.same(planLines(input).map(told), plans, name);
  }
  t.end();
});
