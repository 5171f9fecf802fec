import t from 'tap';
import type { Datagrams } from '../../src/core/ports/datagrams.js';
import type { Reach } from '../../src/core/ports/reach.js';
import { parseProbeQuestion, probeAnswer } from '../../src/core/probe.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import { NO_LOAD, type SupernodeInfo } from '../../src/model/directory.js';
import type { PeerId } from '../../src/model/ids.js';
import type { Region } from '../../src/model/role.js';
import { minutes, ms } from '../../src/model/time.js';
import { Latencies } from '../../src/roles/common/latency.js';
import { type Measured, NEARBY, nearby, rankSupernodes } from '../../src/roles/common/latency-rank.js';
import { endpoint } from '../support/fake-stream.js';
import { seededRandom } from '../support/seeded-random.js';
import { testLog } from '../support/test-log.js';
import { VirtualClock } from '../support/virtual-clock.js';

const supernode = (name: string, region: string, change: Partial<SupernodeInfo> = {}): SupernodeInfo => ({
  id: name as PeerId,
  region: region as Region,
  addresses: [{ host: `198.51.100.${name.charCodeAt(0)}`, port: 443 as Port }],
  relayIps: [`198.51.100.${name.charCodeAt(0)}` as IpAddress],
  probePort: 3478 as Port,
  draining: false,
  load: NO_LOAD,
  ...change,
});
const names = (supernodes: readonly SupernodeInfo[]): string => supernodes.map((one) => one.id).join('');

t.test('the order in which a node turns to supernodes', (t) => {
  const drains = { draining: true };
  const cases: {
    readonly name: string;
    readonly supernodes: readonly SupernodeInfo[];
    readonly took: Readonly<Record<string, number | 'none'>>;
    readonly client: string;
    readonly exit: string;
  }[] = [
    {
      name: 'nothing measured: own region first, as published',
      supernodes: [supernode('u', 'us'), supernode('a', 'eu'), supernode('b', 'eu')],
      took: {},
      client: 'abu',
      exit: 'abu',
    },
    {
      name: 'by round trip within the region, and within the others',
      supernodes: [supernode('u', 'us'), supernode('s', 'asia'), supernode('a', 'eu'), supernode('b', 'eu')],
      took: { u: 90, s: 80, a: 30, b: 20 },
      client: 'basu',
      exit: 'basu',
    },
    {
      name: 'unmeasured ones after measured ones',
      supernodes: [supernode('a', 'eu'), supernode('b', 'eu'), supernode('u', 'us'), supernode('v', 'us')],
      took: { b: 400, v: 500 },
      client: 'bavu',
      exit: 'bavu',
    },
    {
      name: 'another region much closer: for a client it comes first, an exit stays where it is looked for',
      supernodes: [supernode('a', 'eu'), supernode('u', 'us')],
      took: { a: 100, u: 30 },
      client: 'ua',
      exit: 'au',
    },
    {
      name: 'closer, but not by half',
      supernodes: [supernode('a', 'eu'), supernode('u', 'us')],
      took: { a: 100, u: 60 },
      client: 'au',
      exit: 'au',
    },
    {
      name: 'closer by more than half, but of a few milliseconds',
      supernodes: [supernode('a', 'eu'), supernode('u', 'us')],
      took: { a: 20, u: 5 },
      client: 'au',
      exit: 'au',
    },
    {
      name: 'the own region not measured: nobody knows that it is far',
      supernodes: [supernode('a', 'eu'), supernode('u', 'us')],
      took: { u: 5 },
      client: 'au',
      exit: 'au',
    },
    {
      name: 'what did not answer after everything that might, what drains at the end',
      supernodes: [
        supernode('a', 'eu', drains),
        supernode('b', 'eu'),
        supernode('c', 'eu'),
        supernode('u', 'us'),
        supernode('v', 'us', drains),
      ],
      took: { a: 1, b: 'none', v: 2 },
      client: 'cubav',
      exit: 'cubav',
    },
  ];
  for (const { name, supernodes, took, client, exit } of cases) {
    const measured = (id: PeerId): Measured => {
      const result = took[id];
      return typeof result === 'number' ? ms(result) : result;
    };
    t.equal(names(rankSupernodes(supernodes, { region: 'eu', mayLeave: true }, measured)), client, `client: ${name}`);
    t.equal(names(rankSupernodes(supernodes, { region: 'eu', mayLeave: false }, measured)), exit, `exit: ${name}`);
  }
  t.end();
});

t.test('the few a node has an eye on: its homes, its region, and somebody of every other', (t) => {
  const many = (region: string, ...all: string[]) => all.map((name) => supernode(name, region));
  const eu = many('eu', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i');
  const us = many('us', 'p', 'q', 'r');
  const asia = many('asia', 's', 't');
  t.equal(names(nearby([...eu, ...us, ...asia], 'eu', [])), 'abcdepsq');
  t.equal(names(nearby([...eu, ...us, ...asia], 'eu', ['t' as PeerId, 'i' as PeerId])), 'itabcpsq');
  t.equal(names(nearby([...eu], 'eu', [])), 'abcdefgh', 'where there is no other region, all of its own');
  t.equal(names(nearby([...us, ...asia], 'eu', [])), 'psqtr');
  t.equal(nearby([...eu, ...us], 'eu', []).length, NEARBY);
  t.end();
});

/** Supernodes that answer probes after so many ms, by UDP, or by TCP only. */
function around(took: Record<string, { readonly udp?: number; readonly tcp?: number }>) {
  const clock = new VirtualClock();
  const asked: string[] = [];
  const supernodes = Object.keys(took).map((name) => supernode(name, 'eu'));
  const timesOf = (ip: IpAddress) => {
    const name = supernodes.find((one) => one.relayIps.includes(ip))?.id ?? '';
    return { name, ...took[name] };
  };
  const datagrams: Datagrams = {
    serve: () => Promise.reject(new Error('not here')),
    ask: (to, question, accept, timeout) => {
      const { name, udp } = timesOf(to.ip);
      const nonce = parseProbeQuestion(question)?.nonce ?? new Uint8Array(16);
      const answer = probeAnswer(nonce, endpoint('203.0.113.9:50000'));
      asked.push(`udp ${name}`);
      return new Promise((resolve) =>
        clock.after(udp === undefined ? timeout : ms(udp), () =>
          resolve(udp !== undefined && accept(answer) ? answer : undefined),
        ),
      );
    },
  };
  const reach: Reach = {
    tcp: (to, { timeout }) => {
      if (!('ip' in to)) throw new Error('a name would be asked for outside the tunnel');
      const { name, tcp } = timesOf(to.ip);
      asked.push(`tcp ${name}`);
      return new Promise((resolve) =>
        clock.after(tcp === undefined ? timeout : ms(tcp), () => resolve(tcp === undefined ? undefined : ms(tcp))),
      );
    },
  };
  let changes = 0;
  const latencies = new Latencies({
    clock,
    random: seededRandom(1),
    log: testLog(),
    datagrams,
    reach,
    supernodes: () => supernodes,
    region: 'eu',
    held: () => [],
    changed: () => changes++,
  });
  const results = () => Object.fromEntries(supernodes.map(({ id }) => [id, latencies.of(id)]));
  return { clock, asked, took, latencies, results, changes: () => changes };
}

t.test('round trips are measured at start and every ten minutes or so, by TCP where no UDP comes back', async (t) => {
  const world = around({ a: { udp: 30, tcp: 99 }, b: { tcp: 70 }, c: {} });
  world.latencies.start();
  await world.clock.advance(10_000);
  t.same(world.results(), { a: 30, b: 70, c: 'none' });
  t.equal(world.changes(), 1);
  t.equal(world.asked.filter((one) => one.endsWith('a')).length, 2, 'two packets, of which the faster counts');

  world.took.a = { udp: 200 };
  world.took.c = { udp: 10 };
  await world.clock.advance(minutes(7));
  t.equal(world.results().a, 30, 'not yet');
  await world.clock.advance(minutes(6));
  t.same(world.results(), { a: 200, b: 70, c: 10 });
  await world.clock.advance(minutes(60));
  t.ok(world.asked.length < 70, `${world.asked.length} packets in an hour and a quarter`);

  world.latencies.stop();
  await world.clock.advance(10_000);
  t.equal(world.clock.pending, 0);
});

t.test('on another network what was measured is forgotten, and a round under way with it', async (t) => {
  const world = around({ a: { udp: 30 }, b: { udp: 900 } });
  world.latencies.start();
  await world.clock.advance(400);
  t.equal(world.results().a, 30);
  world.took.a = { udp: 80 };
  world.latencies.forget();
  t.same(world.results(), { a: undefined, b: undefined });
  world.took.b = { udp: 20 };
  await world.clock.advance(5_000);
  t.same(world.results(), { a: 80, b: 20 }, 'the slow answer of before says nothing');
  world.latencies.stop();
});
