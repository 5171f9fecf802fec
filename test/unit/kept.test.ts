import t from 'tap';
import type { Port } from '../../src/model/address.js';
import type { PeerId } from '../../src/model/ids.js';
import { instantOf } from '../../src/model/time.js';
import { ClientRecord } from '../../src/roles/client/record.js';
import { FrontBook } from '../../src/roles/supernode/front-book.js';
import { Quarantine } from '../../src/roles/supernode/quarantine.js';
import { RelayPorts } from '../../src/roles/supernode/relay-ports.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { testLog } from '../support/test-log.js';
import { VirtualClock } from '../support/virtual-clock.js';

const SESSION = '00112233445566778899aabbccddeeff';
const PEER = '7ulsioc2uddvwzh3pdgwal5b3gi7327xnmj4ldwxalvmqnpj6yma' as PeerId;
const KEY = Buffer.alloc(32, 7).toString('base64');
const FRONT = {
  session: SESSION,
  client: PEER,
  clientKey: KEY,
  exit: PEER,
  supernode: PEER,
  path: 'relay',
  inner: { ipv4: '10.200.0.2', ipv6: 'fd76::2', gatewayIpv4: '10.200.0.1', gatewayIpv6: 'fd76::1' },
  port: 40_001,
  localIp: '203.0.113.7',
  next: { kind: 'pair', port: 40_002 },
  generation: 1,
  leaseUntil: 2_000_000_000_000,
  openedAt: 1_900_000_000_000,
  established: true,
};

function loaded(record: object): FrontBook {
  const { facts } = openMemoryStore();
  facts.put(`front/${SESSION}`, record);
  const clock = new VirtualClock(instantOf(1_900_000_000_000));
  const ports = new RelayPorts({ from: 40_000 as Port, to: 40_999 as Port });
  const log = testLog();
  const book = new FrontBook({
    facts,
    clock,
    log,
    ports,
    restingPorts: new Quarantine('ports', ports, { facts, clock, log }),
  });
  book.load(undefined);
  return book;
}

t.test('what a version before has not written, and one after has added, is taken up', async (t) => {
  t.match(loaded(FRONT).all(), [{ session: SESSION, way: { kind: 'granted' }, privacy: 'auto' }]);
  t.match(loaded({ ...FRONT, way: { kind: 'returning' }, colour: 'blue' }).all(), [{ way: { kind: 'returning' } }]);
});

t.test('a record of another shape stops the daemon in words, and names no session', async (t) => {
  for (const [field, value] of Object.entries({
    session: 'x',
    client: 7,
    inner: { ...FRONT.inner, ipv4: '10.200.0.999' },
    port: 70_000,
    next: { kind: 'hop', endpoint: { ip: '203.0.113.7' } },
    leaseUntil: 'tomorrow',
    way: { kind: 'direct', client: { ip: '203.0.113.7', port: 1 } },
    path: 'relay3',
  })) {
    const load = () => loaded({ ...FRONT, [field]: value });
    t.throws(load, { code: 'state-corrupt', message: /^what is stored under "front" is not what vpnd writes/ }, field);
    t.throws(load, { message: /^((?!00112233).)*$/ }, field);
  }
});

t.test('a client says so of its tunnels and of what it was asked for', async (t) => {
  const { facts } = openMemoryStore();
  const record = new ClientRecord(facts, testLog());
  t.same([record.wish(), record.tunnels()], [undefined, []]);
  facts.put('wish', { region: 5 });
  facts.put('tunnels', [{ slot: 0, use: 'active', held: { session: SESSION } }]);
  t.throws(() => record.wish(), { code: 'state-corrupt' });
  t.throws(() => record.tunnels(), { code: 'state-corrupt' });
});
