import t from 'tap';
import { explainRejections, type RankedWish, type RankingContext, rankExits } from '../../src/core/ranking.js';
import type { Endpoint, IpAddress } from '../../src/model/address.js';
import { type ExitCandidate, NO_LOAD } from '../../src/model/directory.js';
import type { PeerId } from '../../src/model/ids.js';
import type { Country, Region } from '../../src/model/role.js';
import type { ExitWish } from '../../src/model/session.js';
import { ms } from '../../src/model/time.js';

const A = 'a'.repeat(52) as PeerId;
const B = 'b'.repeat(52) as PeerId;

const exit = (id: string, more: Partial<ExitCandidate> = {}): ExitCandidate => ({
  id: id.padEnd(52, 'x') as PeerId,
  supernode: B,
  region: 'us' as Region,
  country: undefined,
  pool: '',
  ipv6: false,
  load: { ...NO_LOAD, sessionCapacity: 10 },
  maxMbps: 0,
  latency: ms(10),
  publicEndpoint: undefined,
  egress: false,
  family: 4,
  ...more,
});

const wish = (more: Partial<ExitWish> = {}): ExitWish => ({
  region: undefined,
  country: undefined,
  pool: undefined,
  exit: undefined,
  minMbps: undefined,
  maxLatency: undefined,
  privacy: 'auto',
  ...more,
});

const context: RankingContext = {
  self: A,
  relayIps: ['198.51.100.1' as IpAddress],
  clientIps: ['198.51.100.20' as IpAddress],
  clientLatency: ms(5),
  latencyTo: () => ms(30),
  relayIpsOf: () => ['198.51.100.2' as IpAddress],
};
const at = (ip: string): Endpoint => ({ ip: ip as IpAddress, port: 51820 as Endpoint['port'] });
const first = (candidates: ExitCandidate[], asked = wish()) => rankExits(candidates, asked, context);

t.test('each wish leaves out what does not fit it, and says why', async (t) => {
  const cases: [string, ExitCandidate, Partial<ExitWish>, RegExp][] = [
    ['region', exit('e'), { region: 'eu' as Region }, /region us/],
    ['country', exit('e', { country: 'DE' as Country }), { country: 'FR' as Country }, /country is DE/],
    ['pool', exit('e'), { pool: 'work' }, /pool work/],
    ['name', exit('e'), { exit: exit('other').id }, /by name/],
    [
      'capacity',
      exit('e', { load: { ...NO_LOAD, sessions: 10, sessionCapacity: 10 } }),
      {},
      /allows \d+ sessions at a time, and all are taken/,
    ],
    ['bandwidth', exit('e', { maxMbps: 50 }), { minMbps: 100 }, /50 Mbit/],
    ['latency', exit('e', { latency: ms(200) }), { maxLatency: ms(100) }, /over the 100 ms/],
    ['family', exit('e', { family: 6 }), {}, /IPv6 only/],
    ['one relay', exit('e', { supernode: A }), { privacy: 'private' }, /see both ends/],
    ['egress', exit('e', { egress: true }), { privacy: 'private' }, /single relay/],
  ];
  for (const [name, candidate, asked, reason] of cases) {
    const { ranked, rejected } = first([candidate], wish(asked));
    t.equal(ranked.length, 0, name);
    t.match(rejected[0]?.reason, reason, name);
  }
});

t.test('the path follows from where the exit is', async (t) => {
  const pathOf = (candidate: ExitCandidate, asked = wish()) => first([candidate], asked).ranked[0]?.path;
  t.equal(pathOf(exit('far')), 'relay2', 'under another supernode');
  t.equal(pathOf(exit('near', { supernode: A })), 'relay', 'under the same one');
  t.equal(pathOf(exit('open', { publicEndpoint: at('203.0.113.9') })), 'direct', 'with a port of its own');
  t.equal(
    pathOf(exit('open', { publicEndpoint: at('203.0.113.9') }), wish({ privacy: 'private' })),
    'relay2',
    'but never direct when private',
  );
  t.equal(
    pathOf(exit('six', { publicEndpoint: at('2001:db8::9') })),
    'relay2',
    'a family the client lacks is not reachable',
  );
});

t.test('near and idle come first; a supernode’s egress comes after homes', async (t) => {
  const order = first([
    exit('busy', { load: { ...NO_LOAD, sessions: 9, sessionCapacity: 10 } }),
    exit('slow', { latency: ms(90) }),
    exit('good'),
    exit('egress', { egress: true, publicEndpoint: at('203.0.113.9') }),
  ]).ranked.map((one) => one.exit.id.replace(/x+$/, ''));
  t.same(order, ['good', 'busy', 'slow', 'egress']);
});

t.test('an exit offered twice counts once, and equal ones keep one order', async (t) => {
  const one = first([exit('b'), exit('a'), exit('b')]).ranked.map((ranked) => ranked.exit.id[0]);
  t.same(one, ['a', 'b']);
});

t.test(
  'exits that a client has or had to leave are never given, others over other supernodes come first',
  async (t) => {
    const C = 'c'.repeat(52) as PeerId;
    const near = exit('near');
    const far = exit('far', { supernode: C, latency: ms(300) });
    const own = exit('own', { supernode: A, latency: ms(200) });
    const avoiding = (more: Partial<RankedWish>) => rankExits([near, far, own], { ...wish(), ...more }, context);
    const order = (more: Partial<RankedWish>) => avoiding(more).ranked.map((one) => one.exit.id.replace(/x+$/, ''));
    t.same(order({}), ['near', 'own', 'far']);
    t.same(order({ avoidExits: [near.id] }), ['own', 'far']);
    t.match(avoiding({ avoidExits: [near.id] }).rejected, [{ reason: /in use already/ }]);
    t.same(order({ exit: near.id, avoidExits: [near.id] }), [], 'not even by name');
    t.same(order({ avoidSupernodes: [B] }), ['own', 'far', 'near'], 'last, however near');
    t.match(
      avoiding({ avoidSupernodes: [B] })
        .ranked.at(-1)
        ?.reasons.join(),
      /was to be avoided/,
    );
    t.same(
      order({ avoidSupernodes: [C, B] }),
      ['own', 'near', 'far'],
      'where all are to be avoided, the first one most',
    );
    t.same(order({ avoidSupernodes: [B, C] }), ['own', 'far', 'near']);
    t.same(order({ avoidSupernodes: [A] }), ['near', 'own', 'far'], 'the one that is asked cannot be avoided');
    const open = exit('open', { publicEndpoint: at('203.0.113.9'), latency: ms(400) });
    const straight = rankExits([near, open], { ...wish(), avoidSupernodes: [B] }, context).ranked[0];
    t.match(straight, { exit: { id: open.id }, path: 'direct' }, 'a supernode beside the path is none on it');
  },
);

t.test('whoever wants to go direct gets exits that are certainly reached so first', async (t) => {
  const open = exit('open', { publicEndpoint: at('203.0.113.9'), latency: ms(100) });
  const best = (privacy: 'auto' | 'direct') => first([exit('near'), open], wish({ privacy })).ranked[0];
  t.match(best('auto'), { path: 'relay2' });
  t.match(best('direct'), { exit: { id: open.id }, path: 'direct' });
  t.equal(first([exit('near')], wish({ privacy: 'direct' })).ranked.length, 1, 'and others where there are none');
});

t.test('an exit that has moved is reached over its new supernode', async (t) => {
  const C = 'c'.repeat(52) as PeerId;
  const ways = [exit('e'), exit('e', { supernode: C })];
  const via = (avoid: PeerId, candidates = ways) =>
    rankExits(candidates, { ...wish(), avoidSupernodes: [avoid] }, context).ranked.map((one) => one.exit.supernode);
  t.same(via(B), [C]);
  t.same(via(B, [...ways].reverse()), [C]);
  t.same(via(C), [B]);
});

t.test('an exit without internet is for those who name it', async (t) => {
  const down = exit('down');
  const told: RankingContext = { ...context, unusable: (id) => (id === down.id ? 'no internet' : undefined) };
  t.match(rankExits([down], wish(), told), { ranked: [], rejected: [{ reason: 'no internet' }] });
  t.equal(rankExits([down], wish({ exit: down.id }), told).ranked.length, 1);
});

t.test('every choice can be explained to a person', async (t) => {
  const [best] = first([exit('e', { maxMbps: 100 })]).ranked;
  t.same(best?.reasons, ['in region us', 'about 45 ms over relay2', '0 of 10 sessions', 'lends 100 Mbit/s']);
  const { rejected } = first([exit('a'), exit('b'), exit('c', { maxMbps: 1 })], wish({ pool: 'x', minMbps: 5 }));
  t.equal(explainRejections(rejected), '3 exits do not fit: it is not in pool x (3)');
});
