import type { FactStore } from '../../../src/core/ports/store.js';
import { openSodium } from '../../../src/identity/sodium.js';
import type { Port } from '../../../src/model/address.js';
import { instantOf } from '../../../src/model/time.js';
import { nodesOf } from '../../../src/roles/client/held-session.js';
import { ClientRecord } from '../../../src/roles/client/record.js';
import { BackBook } from '../../../src/roles/supernode/back-book.js';
import { FrontBook, hopOf, isParked, pathOf } from '../../../src/roles/supernode/front-book.js';
import { Quarantine } from '../../../src/roles/supernode/quarantine.js';
import { RelayPorts } from '../../../src/roles/supernode/relay-ports.js';
import { decodeJson, encodeJson } from '../../../src/store/json-codec.js';
import { testLog } from '../../support/test-log.js';
import { VirtualClock } from '../../support/virtual-clock.js';
import { must, orRefused } from '../engine/oracle.js';
import { Chance } from '../engine/random.js';
import { bytesOf, type Target, textOf } from '../engine/target.js';

const { crypto } = await openSodium();
const NOW = Date.UTC(2026, 0, 1);
const chance = new Chance(5);
const peer = () => crypto.identityFromSeed(chance.bytes(32)).id;
const key = () => Buffer.from(chance.bytes(32)).toString('base64');
const SESSION = '00112233445566778899aabbccddeeff';
const ENDPOINT = { ip: '203.0.113.7', port: 40_001 };
const INNER = {
  ipv4: '10.200.0.2',
  ipv6: 'fd76:706e:6400::2',
  gatewayIpv4: '10.200.0.1',
  gatewayIpv6: 'fd76:706e:6400::1',
};
const NEXT = { kind: 'hop', endpoint: ENDPOINT };

/** As each book has written them: front, back, a client's tunnels, what a client wishes for. */
const RECORDS: readonly object[] = [
  {
    session: SESSION,
    client: peer(),
    clientKey: key(),
    exit: peer(),
    supernode: peer(),
    path: 'relay2',
    privacy: 'auto',
    way: { kind: 'granted' },
    inner: INNER,
    port: 40_001,
    localIp: '203.0.113.7',
    next: NEXT,
    generation: 3,
    leaseUntil: NOW + 3_600_000,
    openedAt: NOW,
    established: true,
  },
  {
    session: SESSION,
    origin: peer(),
    exit: peer(),
    port: 40_002,
    asked: 3,
    generation: 4,
    leaseUntil: NOW + 3_600_000,
    setup: { kind: 'setup-exit', clientKey: key(), inner: INNER },
    next: { kind: 'pair', port: 40_003 },
    way: { kind: 'direct', told: true, client: ENDPOINT, exit: ENDPOINT, settled: false },
  },
  [
    {
      slot: 0,
      use: 'active',
      held: {
        session: SESSION,
        generation: 1,
        keys: { publicKey: key(), privateKey: key() },
        supervisor: peer(),
        exit: peer(),
        exitKey: key(),
        exitRegion: 'eu',
        exitCountry: undefined,
        path: 'relay',
        via: [peer()],
        endpoint: ENDPOINT,
        relay: { endpoint: ENDPOINT, path: 'relay' },
        keepalive: 25,
        inner: INNER,
        ipv6: true,
        leaseUntil: NOW + 3_600_000,
        openedAt: NOW,
        reasons: ['closest'],
        connectedAfter: 12.5,
        preshared: { key: key(), since: NOW },
      },
    },
  ],
  { region: 'eu', country: 'DE', pool: undefined, exit: peer(), minMbps: 5, maxLatency: 80, privacy: 'private' },
];
const CORRUPT = ['state-corrupt'];

/** A store in which this one record stands wherever something is looked for. */
const holding = (value: unknown): FactStore => ({
  get: <T>() => value as T,
  put: () => {},
  remove: () => {},
  names: (prefix) => [`${prefix}${SESSION}`],
});

/** Records of sessions as a daemon takes them up when it starts: whole, or with a refusal that says what is wrong. */
export const books: Target = {
  name: 'books',
  shape: 'json',
  words: [
    '$undefined',
    '$bytes',
    'kind',
    'direct',
    'moving',
    'hop',
    'pair',
    'port',
    'ip',
    'inner',
    'way',
    'via',
    'held',
    '1e99',
  ],
  open: async () => ({
    make: (drawn) => bytesOf(encodeJson(drawn.of(RECORDS))),
    run(input) {
      const read = orRefused(() => ({ value: decodeJson(textOf(input)) }), CORRUPT);
      if (read === undefined) return;
      const facts = holding(read.value);
      const clock = new VirtualClock(instantOf(NOW));
      const log = testLog();
      const ports = new RelayPorts({ from: 40_000 as Port, to: 40_999 as Port });
      const nothing = { ...holding(undefined), names: () => [] };
      const restingPorts = new Quarantine('ports', ports, { facts: nothing, clock, log });
      const deps = { clock, log, ports, restingPorts };
      const restless = {
        ...facts,
        get: <T>(name: string) => (name.startsWith('resting/') ? undefined : facts.get<T>(name)),
      };
      const front = new FrontBook({ ...deps, facts: restless });
      orRefused(() => front.load(undefined), CORRUPT);
      for (const one of front.all()) {
        must(Number.isFinite(one.leaseUntil), 'a session never ends', one.leaseUntil);
        must(['direct', 'relay', 'relay2'].includes(pathOf(one)), 'a path that is none', pathOf(one));
        hopOf(one);
        isParked(one);
        front.drop(one);
      }
      const back = new BackBook({ ...deps, facts: restless });
      orRefused(() => back.load(), CORRUPT);
      for (const one of back.all()) {
        must(one.leaseUntil > NOW, 'a session that has ended is taken up');
        must(back.countAt(one.exit) === 1, 'an exit has another count of sessions');
        back.drop(one);
      }
      const record = new ClientRecord(facts, log);
      orRefused(() => record.wish(), CORRUPT);
      for (const { held } of orRefused(() => record.tunnels(), CORRUPT) ?? [])
        must(
          nodesOf(held).every((id) => id.length === 52),
          'a session over nobody',
          nodesOf(held),
        );
    },
  }),
};
