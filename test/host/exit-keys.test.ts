import t from 'tap';
import type { SessionRecord } from '../../src/core/ports/store.js';
import type { PeerUnit, Unit } from '../../src/model/dataplane.js';
import { instantOf } from '../../src/model/time.js';
import { WireGuardKeys } from '../../src/roles/exit/wireguard-keys.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { openOnHost } from '../support/namespace-dataplane.js';
import {
  A,
  B,
  buildWorld,
  CLIENT_HOME,
  clientUnits,
  EXIT_HOME,
  GATEWAY,
  INNER,
  pings,
  pingsUntilHeard,
} from '../support/namespace-path.js';
import { at, cidrs, device, egress, ip, keyPair, name, peer, port, relay } from '../support/namespace-units.js';

t.setTimeout(120_000);

const WEB = '198.51.100.80';
const OTHER = { ipv4: '10.200.0.3', ipv6: 'fd7a:7670:6e64::3' };
const [CLIENT, FIRST, PSK, OTHERS, SECOND] = [keyPair(11), keyPair(12), keyPair(13), keyPair(21), keyPair(22)];

/** A session's record as far as its key and addresses go. */
const record = (session: string, inner: { ipv4: string; ipv6: string }, clientKey: string, exitKey: string) =>
  ({
    session,
    desired: [{ kind: 'setup-exit', inner, clientKey, exitKey }],
  }) as unknown as SessionRecord;

t.test('two WireGuard keys of one exit, each with its interface, and one network', async (t) => {
  const world = await buildWorld();
  t.teardown(() => world.close());
  const { client, exit, b } = world.hosts;
  await world.planes.a.apply({
    put: [
      relay(40_001, { vouched: [ip(CLIENT_HOME)], next: { kind: 'pair', port: port(40_002) } }),
      relay(40_002, { vouched: [ip(EXIT_HOME)], next: { kind: 'pair', port: port(40_001) } }),
    ],
  });
  const keys = new WireGuardKeys({
    facts: openMemoryStore().facts,
    clock: { now: () => instantOf(0) } as never,
    interface: name('wg-exit'),
    port: undefined,
    first: () => FIRST,
    keep: () => {},
  });
  const first = record('1'.repeat(32), INNER, CLIENT.publicKey, FIRST.publicKey);
  const second = record('2'.repeat(32), OTHER, OTHERS.publicKey, SECOND.publicKey);
  const peerOf = (one: SessionRecord, more: Partial<PeerUnit>): Unit =>
    peer(keys.device(keys.of(one)), 0, { keepalive: 25, ...more });
  const old = () =>
    peerOf(first, {
      publicKey: CLIENT.publicKey,
      presharedKey: PSK.publicKey,
      allowedIps: cidrs(`${INNER.ipv4}/32`, `${INNER.ipv6}/128`),
      endpoint: at(A.ipv4, 40_002),
    });
  const young = () =>
    peerOf(second, {
      publicKey: OTHERS.publicKey,
      allowedIps: cidrs(`${OTHER.ipv4}/32`, `${OTHER.ipv6}/128`),
      endpoint: at(B.ipv4, 51_999),
    });
  const become = async (sessions: readonly SessionRecord[], peers: readonly Unit[]) => {
    const units = keys.fixed(
      ({ pair }, device_, listenPort) => [
        device(device_, { privateKey: pair.privateKey, listenPort }),
        egress(device_),
      ],
      () => sessions,
    );
    return world.planes.exit.reconcile([...units, ...peers]);
  };

  await become([first], [old()]);
  await world.planes.client.reconcile(clientUnits(at(A.ipv4, 40_001), { ipv6: 'tunnel' }));
  await pingsUntilHeard(client, WEB);
  const running = pings(client, WEB, 400, 0.01);
  const running6 = pings(client, '2001:db8::80', 200, 0.02);

  keys.part();
  await become([first], [old()]);
  keys.begin(SECOND, true);
  await become([first], [old()]);

  // Somebody new, on the new key.
  const plane = await openOnHost(b, { owner: 'client', engine: 'auto' });
  await plane.reconcile([
    device('wg-client', {
      privateKey: OTHERS.privateKey,
      listenPort: port(51_999),
      addresses: cidrs(`${OTHER.ipv4}/32`, `${OTHER.ipv6}/128`),
    }),
    peer('wg-client', 0, { publicKey: SECOND.publicKey, allowedIps: cidrs('10.200.0.1/32', `${WEB}/32`) }),
  ]);
  await b.ip('route add 10.200.0.1 dev wg-client');
  await become([first, second], [old(), young()]);
  await pingsUntilHeard(b, GATEWAY);
  t.equal(await pings(b, GATEWAY, 10, 0.05), 10, 'the new key’s session is answered');
  t.equal(await pings(client, GATEWAY, 10, 0.05), 10, 'and so is the old one’s');
  t.equal(await running, 400, 'no packet of the old session is lost');
  t.equal(await running6, 200, 'nor over IPv6');
  const routes = await exit.exec(['ip', 'route', 'show']);
  t.match(routes, /10\.200\.0\.2 dev wg-exit /);
  t.notMatch(routes, /10\.200\.0\.0\/13 dev wg-exit /, 'the network is the new interface’s');
  t.same((await become([first, second], [old(), young()])).repaired, [], 'all of it is as it should be');

  const still = pings(b, GATEWAY, 200, 0.01);
  keys.forget();
  await become([second], [young()]);
  t.equal(await still, 200, 'no packet of the new session is lost when the old key goes');
  t.equal((await exit.run(['ip', 'link', 'show', 'wg-exit'])).code, 1, 'its interface is gone');
  t.notMatch(await exit.exec(['ip', 'route', 'show']), /10\.200\.0\.2 /, 'and its routes');
});
