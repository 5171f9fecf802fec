import t from 'tap';
import type { DialTarget } from '../../src/core/ports/network.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import type { SessionId } from '../../src/model/ids.js';
import type { OpenSessionRequest, UnaryCalls, UnaryName } from '../../src/model/messages.js';
import { minutes, seconds } from '../../src/model/time.js';
import { CONTROL_PORT } from '../support/overlay-world/configs.js';
import { overlayWorld } from '../support/overlay-world.js';

/** Rows of docs/security.md that no other test is about: who may make which call, and where a relay may be pointed. */
async function world() {
  const made = await overlayWorld();
  const own = made.node('a').store.facts.get<{ certificate: string; tlsKey: string; ca: string }>('enrolment');
  if (own === undefined) throw new Error('supernode a is not enrolled');
  const from = made.internet.host('192.0.2.200' as IpAddress);
  const call = <M extends UnaryName>(name: string, method: M, request: UnaryCalls[M][0], certified: boolean) => {
    const machine = made.node(name);
    const target: DialTarget = {
      address: { host: machine.ip, port: CONTROL_PORT },
      expect: machine.role === 'base' ? { kind: 'base' } : { kind: 'supernode', id: machine.identity.id },
      ca: own.ca,
      ...(certified ? { identity: () => ({ certificate: own.certificate, privateKey: own.tlsKey }) } : {}),
    };
    return made.outcome(from.call(target, method, request, { timeout: seconds(5) }));
  };
  const open = (previousHop: OpenSessionRequest['previousHop']): OpenSessionRequest => ({
    session: 'ab'.repeat(16) as SessionId,
    generation: 1,
    exit: made.node('x0').identity.id,
    clientKey: made.node('c0').wireguard.publicKey,
    kemKey: new Uint8Array(0),
    innerIpv4: '10.200.4.200' as IpAddress,
    innerIpv6: 'fd76:706e:64:1::200' as IpAddress,
    lease: minutes(10),
    path: 'relay2',
    previousHop,
  });
  return { made, call, open };
}

t.test('calls between supernodes, and for regions at base, need a certificate of the CA', async (t) => {
  const { made, call, open } = await world();
  const wish = {
    region: undefined,
    country: undefined,
    pool: undefined,
    exit: undefined,
    minMbps: undefined,
    maxLatency: undefined,
    limit: 5,
  };
  const hop = { ip: made.node('a').ip, port: 40_001 as Port };
  t.match(await call('b', 'requestExitPeer', wish, false), { code: 'forbidden' });
  t.match(await call('b', 'openSession', open(hop), false), { code: 'forbidden' });
  t.match(await call('base', 'requestExitRegion', { region: undefined }, false), { code: 'unauthenticated' });
  t.same(made.residue(), []);
  t.match(await call('b', 'requestExitPeer', wish, true), { exits: [{ id: made.node('x0').identity.id }] });
  t.match(await call('base', 'requestExitRegion', { region: undefined }, true), { regions: ['eu', 'us'] });
});

t.test('a relay sends to its asker’s own relay addresses and nowhere else', async (t) => {
  const { made, call, open } = await world();
  for (const victim of ['192.0.2.66', '127.0.0.1', made.node('x0').ip, made.node('b').ip]) {
    const answer = await call('b', 'openSession', open({ ip: victim as IpAddress, port: 53 as Port }), true);
    t.match(answer, { code: 'forbidden' }, victim);
  }
  t.same(made.residue(), []);
  const honest = await call('b', 'openSession', open({ ip: made.node('a').ip, port: 40_001 as Port }), true);
  t.match(honest, { endpoint: { ip: made.node('b').ip } });
});
