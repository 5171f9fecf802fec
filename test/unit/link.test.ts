import t from 'tap';
import { ceilingOf, fullJitter, RECONNECT } from '../../src/core/backoff.js';
import {
  chooseTarget,
  type LinkContext,
  type LinkInput,
  type LinkState,
  nextDeadline,
  STOPPED,
  stepLink,
  targetName,
} from '../../src/core/link.js';
import type { DialTarget } from '../../src/core/ports/network.js';
import type { Random } from '../../src/core/ports/random.js';
import { parseHostPort } from '../../src/model/address.js';
import { type ErrorCode, VpndError } from '../../src/model/errors.js';
import { ms, seconds } from '../../src/model/time.js';
import { seededRandom } from '../support/seeded-random.js';

const target = (name: string): DialTarget => {
  const address = parseHostPort(`${name}.example:443`);
  if (!address.ok) throw new Error(name);
  return { address: address.value, expect: { kind: 'base' }, ca: '' };
};
const [A, B, C] = [target('a'), target('b'), target('c')];
const ABC = [A, B, C];

/** Jitter that always draws this part of the longest wait. */
const draw = (fraction: number): Random => ({ bytes: (n) => new Uint8Array(n), fraction: () => fraction });
const error = (code: ErrorCode, details: Record<string, string> = {}) => new VpndError(code, code, { details });

/** Runs inputs, each at its time, and tells the states and effects as words. */
function story(steps: readonly (readonly [at: number, input: LinkInput])[], context: Partial<LinkContext> = {}) {
  let state: LinkState = STOPPED;
  return steps.map(([at, input]) => {
    const [next, effects] = stepLink(state, input, { now: ms(at), random: draw(1), targets: ABC, ...context });
    state = next;
    const deadline = nextDeadline(state);
    const where = state.kind === 'dialing' || state.kind === 'up' ? ` ${state.to.address.host[0]}` : '';
    const did = effects.map((effect) => (effect.kind === 'dial' ? `dial ${effect.to.address.host[0]}` : effect.kind));
    return [`${state.kind}${where}`, deadline === undefined ? '-' : Math.round(deadline), did.join(', ')];
  });
}

const start: LinkInput = { kind: 'start' };
const STOP: LinkInput = { kind: 'stop', error: error('closed') };
const tick: LinkInput = { kind: 'tick' };
const dialed: LinkInput = { kind: 'dialed' };
const authenticated: LinkInput = { kind: 'authenticated', pingInterval: seconds(10), silenceLimit: seconds(30) };
const failed = (code: ErrorCode, details?: Record<string, string>): LinkInput => ({
  kind: 'failed',
  error: error(code, details),
});

t.test('connecting, pinging, and losing the supervisor to silence', async (t) => {
  t.same(
    story([
      [0, start],
      [100, dialed],
      [200, authenticated],
      [5_000, tick],
      [10_200, tick],
      [10_300, { kind: 'heard' }],
      [20_200, tick],
      [30_200, tick],
      [40_299, tick],
      [40_300, tick],
    ]),
    [
      ['dialing a', 10_000, 'dial a'],
      ['authenticating', 10_100, ''],
      ['up a', 10_200, ''],
      ['up a', 10_200, ''],
      ['up a', 20_200, 'ping'],
      ['up a', 20_200, ''],
      ['up a', 30_200, 'ping'],
      ['up a', 40_200, 'ping'],
      ['up a', 40_300, 'ping'],
      ['down', 40_800, 'abandon'],
    ],
  );
});

t.test('every state and every way out of it', async (t) => {
  const up: [number, LinkInput][] = [
    [0, start],
    [1, dialed],
    [2, authenticated],
  ];
  const cases: [string, [number, LinkInput][], unknown][] = [
    [
      'stop while down',
      [
        [0, start],
        [1, failed('unreachable')],
        [2, STOP],
      ],
      ['stopped', '-', ''],
    ],
    [
      'stop while dialing',
      [
        [0, start],
        [1, STOP],
      ],
      ['stopped', '-', 'abandon'],
    ],
    ['stop while up', [...up, [3, STOP]], ['stopped', '-', 'abandon']],
    [
      'start twice',
      [
        [0, start],
        [1, start],
      ],
      ['dialing a', 10_000, ''],
    ],
    [
      'dialing takes too long',
      [
        [0, start],
        [10_000, tick],
      ],
      ['down', 10_500, 'abandon'],
    ],
    [
      'authentication takes too long',
      [
        [0, start],
        [5, dialed],
        [10_005, tick],
      ],
      ['down', 10_505, 'abandon'],
    ],
    [
      'authentication refused',
      [
        [0, start],
        [5, dialed],
        [6, failed('unauthenticated')],
      ],
      ['down', 506, ''],
    ],
    [
      'a late answer to an earlier attempt',
      [
        [0, start],
        [1, failed('unreachable')],
        [2, authenticated],
      ],
      ['down', 501, ''],
    ],
    ['a stream that breaks', [...up, [50, failed('closed')]], ['down', 550, '']],
    [
      'a tick too early',
      [
        [0, start],
        [1, failed('unreachable')],
        [500, tick],
      ],
      ['down', 501, ''],
    ],
    [
      'a machine that slept while up',
      [...up, [3_600_000, { kind: 'woke' }]],
      ['dialing a', 3_610_000, 'abandon, dial a'],
    ],
    [
      'a machine that slept while down',
      [
        [0, start],
        [1, failed('revoked')],
        [2, { kind: 'woke' }],
      ],
      ['dialing a', 10_002, 'dial a'],
    ],
    ['a better network while up', [...up, [9, { kind: 'redial' }]], ['dialing a', 10_009, 'abandon, dial a']],
    [
      'nothing moves a stopped link',
      [
        [0, { kind: 'woke' }],
        [1, tick],
        [2, { kind: 'redial' }],
      ],
      ['stopped', '-', ''],
    ],
  ];
  for (const [name, steps, expected] of cases) t.same(story(steps).at(-1), expected, name);
});

t.test('backoff: the ceiling grows by 1.7 from 0.5 s to 10 s, the wait is anywhere below it', async (t) => {
  t.same(
    Array.from({ length: 9 }, (_, attempt) => Math.round(ceilingOf(RECONNECT, attempt))),
    [500, 850, 1_445, 2_456, 4_176, 7_099, 10_000, 10_000, 10_000],
  );
  const random = seededRandom(3);
  const waits = Array.from({ length: 2_000 }, () => fullJitter(RECONNECT, 3, random));
  t.ok(Math.min(...waits) < 50 && Math.max(...waits) > 2_400 && Math.max(...waits) < 2_456.5);
  const mean = waits.reduce((sum, wait) => sum + wait, 0) / waits.length;
  t.ok(Math.abs(mean - 1_228) < 60, `mean ${Math.round(mean)} ms`);
  t.equal(fullJitter(RECONNECT, 3, draw(0)), 0, 'a draw of zero is a wait of zero');
});

t.test('after two failures in a row the next best is tried, and round again', async (t) => {
  let state: LinkState = STOPPED;
  const dials: string[] = [];
  let now = 0;
  const step = (input: LinkInput) => {
    const [next, effects] = stepLink(state, input, { now: ms(now), random: draw(0.5), targets: ABC });
    state = next;
    for (const effect of effects) if (effect.kind === 'dial') dials.push(effect.to.address.host[0] ?? '');
  };
  step(start);
  for (let i = 0; i < 7; i++) {
    step(failed('unreachable'));
    now = nextDeadline(state) ?? now;
    step(tick);
  }
  t.equal(dials.join(''), 'aabbccaa');

  step(dialed);
  step(authenticated);
  step(failed('closed'));
  t.equal(nextDeadline(state), now + 250, 'once authenticated, waits start from the shortest again');
});

t.test('a stream that breaks says nothing against its supervisor; a full one is left at once', async (t) => {
  const hosts = (steps: [number, LinkInput][]) => story(steps).map(([state]) => state);
  const up: [number, LinkInput][] = [
    [0, start],
    [1, dialed],
    [2, authenticated],
  ];
  t.equal(
    hosts([...up, [10, failed('closed')], [600, tick], [601, failed('unreachable')], [9_000, tick]]).at(-1),
    'dialing a',
  );
  t.equal(
    hosts([
      [0, start],
      [1, dialed],
      [2, failed('full')],
      [600, tick],
    ]).at(-1),
    'dialing b',
  );
});

t.test('where the next dial goes', async (t) => {
  const route = (attempt: number, last: DialTarget | undefined, failures: number, ...tried: DialTarget[]) => ({
    attempt,
    target: last && targetName(last),
    failures,
    tried: tried.map(targetName),
  });
  const cases: [string, Parameters<typeof chooseTarget>, DialTarget | undefined][] = [
    ['the best, at first', [route(0, undefined, 0), ABC], A],
    ['the same, after one failure', [route(1, B, 1), ABC], B],
    ['the best of the others, after two', [route(2, B, 2), ABC], A],
    ['the best of those that had no turn yet', [route(4, B, 2, A), ABC], C],
    ['the best again, after all had theirs', [route(6, C, 2, A, B), ABC], A],
    ['but not the one that has just failed', [route(6, A, 2, C, B), ABC], B],
    ['the best, when the list no longer has it', [{ ...route(1, A, 1), target: 'gone' }, ABC], A],
    ['the only one', [route(9, A, 2), [A]], A],
    ['none', [route(0, undefined, 0), []], undefined],
  ];
  for (const [name, args, expected] of cases) t.equal(chooseTarget(...args), expected, name);
});

t.test('what retrying cannot mend waits long, and keeps its reason', async (t) => {
  const hopeless: ErrorCode[] = ['revoked', 'wrong-region', 'clock-skew', 'bad-membership', 'membership-expired'];
  for (const code of hopeless) {
    const [state] = stepLink(stepLink(STOPPED, start, { now: ms(0), random: draw(0), targets: ABC })[0], failed(code), {
      now: ms(0),
      random: draw(0),
      targets: ABC,
    });
    t.equal(nextDeadline(state), 5_000, code);
    const [again] = stepLink(state, tick, { now: ms(5_000), random: draw(0), targets: ABC });
    t.equal(again.kind === 'dialing' ? again.lastError?.code : undefined, code, 'still told while it tries again');
  }
  const twin = story(
    [
      [0, start],
      [1, dialed],
      [2, authenticated],
      [3, failed('closed', { replaced: 'true' })],
    ],
    {
      random: draw(0),
    },
  );
  t.same(twin.at(-1), ['down', 5_003, ''], 'two machines with one identity do not fight');
});

t.test('a link without anybody to dial waits for a list', async (t) => {
  const none = { targets: [] };
  t.same(
    story(
      [
        [0, start],
        [1_000, tick],
      ],
      none,
    ),
    [
      ['down', 1_000, ''],
      ['down', 2_000, ''],
    ],
  );
});

t.test('a supervisor cannot make its peers ping madly, nor never', async (t) => {
  const wish = (pingInterval: number, silenceLimit: number): LinkInput => ({
    kind: 'authenticated',
    pingInterval: ms(pingInterval),
    silenceLimit: ms(silenceLimit),
  });
  const upAt = (input: LinkInput) =>
    story([
      [0, start],
      [0, dialed],
      [0, input],
    ]).at(-1);
  t.same(upAt(wish(0, 0)), ['up a', 1_000, '']);
  t.same(upAt(wish(1e9, 1e12)), ['up a', 60_000, '']);
});
