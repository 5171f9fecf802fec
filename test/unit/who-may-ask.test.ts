import fc from 'fast-check';
import t from 'tap';
import type { DialTarget } from '../../src/core/ports/network.js';
import type { IpAddress } from '../../src/model/address.js';
import type { VpndError } from '../../src/model/errors.js';
import type { SessionId } from '../../src/model/ids.js';
import type { ControlMessage, UnaryCalls, UnaryName } from '../../src/model/messages.js';
import { minutes, seconds } from '../../src/model/time.js';
import { UNARY } from '../../src/transport/codec/unary.js';
import type { FakeStream } from '../support/fake-stream.js';
import { CONTROL, UNARY_MESSAGES } from '../support/message-arbitraries.js';
import { CONTROL_PORT } from '../support/overlay-world/configs.js';
import { overlayWorld } from '../support/overlay-world.js';
import { streamWorld } from '../support/stream-world.js';

/** Who may say what to whom: every message and every call, by everybody, and about what is somebody else's. */
const KINDS = Object.keys(CONTROL) as (keyof typeof CONTROL)[];
const CALLS = Object.keys(UNARY) as UnaryName[];
const SEED = 20_15;

const refusalOf = (cable: FakeStream): string => cable.endOf('peer')?.error?.code ?? 'none';

const sampleOf = (kind: keyof typeof CONTROL): ControlMessage =>
  fc.sample(CONTROL[kind] as fc.Arbitrary<ControlMessage>, { seed: SEED, numRuns: 1 })[0] as ControlMessage;

/** What only a supervisor says on a stream. */
const DOWNWARDS: readonly string[] = ['auth-response', 'command', 'info-response', 'exit-response'];

t.test('row 15: who has not authenticated says AuthRequest and nothing else', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor({ limits: { address: { perMinute: 1e6, burst: 1e5 } } });
  for (const kind of KINDS.filter((one) => one !== 'auth-request')) {
    const { cable } = supervisor.open();
    cable.peer.send(sampleOf(kind));
    await world.clock.advance(100);
    t.equal(refusalOf(cable), 'bad-message', kind);
  }
  t.same([supervisor.manager.count(), supervisor.events], [0, []]);
});

for (const role of ['exit', 'client'] as const) {
  t.test(`row 15: what a peer that is a ${role} may say, and what ends its stream`, async (t) => {
    const world = streamWorld();
    const asked: string[] = [];
    const supervisor = world.supervisor(
      {},
      {
        exitRequest: async () => {
          asked.push('exit');
          throw new Error('asked');
        },
        datagrams: () => void asked.push('datagrams'),
      },
    );
    for (const kind of KINDS) {
      const { cable } = await world.join(supervisor, world.node(role));
      cable.peer.send(sampleOf(kind));
      await world.clock.advance(100);
      const ends = kind === 'auth-request' || DOWNWARDS.includes(kind) || (kind === 'datagrams' && role === 'exit');
      t.equal(refusalOf(cable), ends ? 'bad-message' : 'none', kind);
      cable.cut();
      await world.clock.advance(100);
    }
    t.same(asked, role === 'client' ? ['exit', 'datagrams'] : [], 'exits and datagrams are for clients');
  });
}

/** A running session of c0's over a to b and its exit, and everybody's way to call everybody. */
async function running() {
  const world = await overlayWorld({
    supernodes: [{ region: 'eu' }, { region: 'us' }, { region: 'ap' }],
    exits: [{ region: 'us' }],
  });
  await world.up('c0', { region: 'us' });
  const { sessionId = '' } = (await world.session('c0')) ?? {};
  const from = world.internet.host('192.0.2.200' as IpAddress);
  const identityOf = (name: string) => {
    const own = world.node(name).store.facts.get<{ certificate: string; tlsKey: string; ca: string }>('enrolment');
    if (own === undefined) throw new Error(`${name} is not enrolled`);
    return own;
  };
  const call = <M extends UnaryName>(to: string, by: string | undefined, method: M, request: UnaryCalls[M][0]) => {
    const machine = world.node(to);
    const own = identityOf(by ?? 'c');
    const target: DialTarget = {
      address: { host: machine.ip, port: CONTROL_PORT },
      expect: machine.role === 'base' ? { kind: 'base' } : { kind: 'supernode', id: machine.identity.id },
      ca: own.ca,
      ...(by === undefined ? {} : { identity: () => ({ certificate: own.certificate, privateKey: own.tlsKey }) }),
    };
    return world.outcome(from.call(target, method, request, { timeout: seconds(5) }));
  };
  return { world, session: sessionId as SessionId, call };
}

const codeOf = (outcome: unknown): string => (outcome as VpndError).code ?? 'answered';

t.test('row 15: every call without a certificate, and every call where it is not served', async (t) => {
  const { world, call } = await running();
  /** Who enrols or renews has no certificate, and proves otherwise who he is; the chain of base’s keys is for all. */
  const FOR_STRANGERS: readonly string[] = ['registerPeer', 'renewMembership', 'fetchAnchors'];
  for (const name of CALLS) {
    const [requests] = UNARY_MESSAGES[name] as readonly [fc.Arbitrary<never>, unknown];
    const request = fc.sample(requests, { seed: SEED, numRuns: 1 })[0] as never;
    for (const to of ['base', 'b']) {
      const code = codeOf(await call(to, undefined, name, request));
      if (FOR_STRANGERS.includes(name)) {
        if (name !== 'fetchAnchors') t.not(code, 'answered', `${name} at ${to}`);
        continue;
      }
      t.ok(['forbidden', 'unauthenticated', 'not-supported'].includes(code), `${name} at ${to}: ${code}`);
    }
  }
  t.match(world.way('c0'), { ok: true }, 'the session goes on');
});

t.test('row 12: another supernode’s session: every call about it, with a certificate of one’s own', async (t) => {
  const { world, session, call } = await running();
  const open = {
    session,
    generation: 99,
    exit: world.node('x0').identity.id,
    clientKey: world.node('c0').wireguard.publicKey,
    kemKey: new Uint8Array(0),
    innerIpv4: '10.200.4.200' as IpAddress,
    innerIpv6: 'fd76:706e:64:1::200' as IpAddress,
    lease: minutes(10),
    path: 'relay2' as const,
    previousHop: { ip: world.node('c').ip, port: 40_001 as never },
  };
  t.match(await call('b', 'c', 'openSession', open), { code: 'forbidden' });
  t.match(await call('b', 'c', 'closeSession', { session, generation: 99, reason: 'mine' }), { code: 'forbidden' });
  const [updates] = UNARY_MESSAGES.updateSession;
  const update = fc.sample(updates as fc.Arbitrary<UnaryCalls['updateSession'][0]>, { seed: SEED, numRuns: 1 })[0];
  if (update === undefined) throw new Error('no sample');
  t.match(await call('b', 'c', 'updateSession', { ...update, session, generation: 99 }), { code: 'forbidden' });
  await world.advance(seconds(5));
  t.match(world.way('c0'), { ok: true });
  t.equal((await world.session('c0'))?.sessionId, session, 'it is where it was');
});
