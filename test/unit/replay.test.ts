import t from 'tap';
import { memoryDataPlane } from '../../dataplane/memory.js';
import { CommandExecutor, type Projection } from '../../src/core/executor.js';
import { openSodium } from '../../src/identity/sodium.js';
import { statements as openStatements } from '../../src/identity/statements.js';
import type { Endpoint, IpAddress, Port } from '../../src/model/address.js';
import { toBase64, toHex } from '../../src/model/bytes.js';
import type { Command, Desired } from '../../src/model/command.js';
import type { CommandId, PeerId, SessionId } from '../../src/model/ids.js';
import type { WireGuardPublicKey } from '../../src/model/keys.js';
import type { AddressPlan } from '../../src/model/messages.js';
import { hours, seconds } from '../../src/model/time.js';
import { exitProjection } from '../../src/roles/exit/projection.js';
import { WayOpener } from '../../src/roles/exit/way-opener.js';
import { WireGuardKeys } from '../../src/roles/exit/wireguard-keys.js';
import { supernodeProjection } from '../../src/roles/supernode/plane.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { exitConfig, supernodeConfig } from '../support/overlay-world/configs.js';
import { seededRandom } from '../support/seeded-random.js';
import { testLog } from '../support/test-log.js';
import { testMetrics } from '../support/test-metrics.js';
import { VirtualClock } from '../support/virtual-clock.js';

const { crypto } = await openSodium();
const DELIVERIES = 10_000;
const SESSIONS = 12;
/** Commands about one session. */
const LENGTH = 60;
const SEED = Number(process.env.SEED ?? 7);
const PLAN: AddressPlan = {
  blocksIpv4: [],
  blocksIpv6: [],
  gatewayIpv4: '10.200.0.1' as IpAddress,
  gatewayIpv6: 'fd76:706e:64::1' as IpAddress,
  poolIpv4: '10.200.0.0/13' as AddressPlan['poolIpv4'],
  poolIpv6: 'fd76:706e:64::/48' as AddressPlan['poolIpv6'],
};

const random = seededRandom(SEED);
const pick = <T>(list: readonly T[]): T => list[Math.floor(random.fraction() * list.length)] as T;
const endpoint = (): Endpoint => ({
  ip: `203.0.113.${1 + Math.floor(random.fraction() * 200)}` as IpAddress,
  port: (20_000 + Math.floor(random.fraction() * 20_000)) as Port,
});

interface Sent {
  readonly owner: PeerId;
  readonly command: Command;
}

const keys = {
  identity: crypto.newIdentity().identity,
  wireguard: crypto.wireGuardKeyPair(),
  joinToken: undefined,
};
const STRANGER = 'z'.repeat(52) as PeerId;
const OWNERS = ['p', 'q', 'r'].map((letter) => letter.repeat(52) as PeerId);

/** A node's executor over its own projection, with nothing else around it. */
async function node(kind: 'exit' | 'supernode') {
  const clock = new VirtualClock();
  const kernel = memoryDataPlane();
  const store = openMemoryStore();
  const common = { keys, statements: openStatements(crypto), clock, ipv6: true, ended: () => {} };
  const opener = new WayOpener({
    clock,
    crypto,
    log: testLog(),
    observe: () => kernel.observePeers(),
    reproject: (session, change) => executor.reproject(session, change),
  });
  const wireguard = new WireGuardKeys({
    facts: store.facts,
    clock,
    interface: exitConfig('x').interface,
    port: undefined,
    first: () => keys.wireguard,
    keep: () => {},
  });
  const ip = '198.51.100.10' as IpAddress;
  const projection: Projection =
    kind === 'exit'
      ? opener.around(
          exitProjection({
            ...common,
            wireguard,
            sessions: () => executor.sessions(),
            config: exitConfig('x'),
            plan: () => PLAN,
            closed: () => undefined,
          }),
        )
      : supernodeProjection({
          ...common,
          config: supernodeConfig('s', ip, { egress: true }),
          addressPlan: () => PLAN,
        });
  const ports = { clock, crypto, ledger: store.ledger, dataplane: kernel, log: testLog(), metrics: testMetrics() };
  const executor: CommandExecutor = new CommandExecutor(ports, projection);
  await clock.run(executor.start());
  return {
    kernel,
    store,
    fixed: kernel.print(),
    /** All at once, as different streams bring them; what is refused is refused. */
    take: async (sent: readonly Sent[]) => {
      const all = Promise.allSettled(sent.map(({ command, owner }) => executor.execute(command, owner)));
      return (await clock.run(all)).filter((one) => one.status === 'fulfilled').length;
    },
    settle: () => clock.advance(seconds(10)),
    reconcile: () => clock.run(executor.reconcile()),
  };
}

/** What one supervisor orders about one session, generation by generation. */
function story(kind: 'exit' | 'supernode', n: number): readonly Sent[] {
  const session = toHex(random.bytes(16)) as SessionId;
  const owner = kind === 'exit' ? pick(OWNERS) : (OWNERS[0] as PeerId);
  const clientKey = toBase64(random.bytes(32)) as WireGuardPublicKey;
  const inner = {
    ipv4: `10.200.4.${n + 1}` as IpAddress,
    ipv6: `fd76:706e:64:1::${n + 1}` as IpAddress,
    gatewayIpv4: PLAN.gatewayIpv4,
    gatewayIpv6: PLAN.gatewayIpv6,
  };
  const setup = (): Desired => ({
    kind: 'setup-exit',
    clientKey,
    inner,
    endpoint: endpoint(),
    keepalive: 25,
    kemKey: new Uint8Array(0),
  });
  const update = (): Desired => ({
    kind: 'relay-update',
    endpoint: endpoint(),
    keepalive: 25,
    path: pick(['direct', 'relay', 'relay2']),
  });
  const relay = (): Desired => ({
    kind: 'relay-setup',
    port: (40_000 + 2 * n + Math.floor(random.fraction() * 2)) as Port,
    localIp: '198.51.100.10' as IpAddress,
    // Without anybody to vouch for, it is parked.
    vouched: random.fraction() < 0.3 ? [] : [endpoint().ip],
    next: { kind: 'hop', endpoint: endpoint() },
  });
  const rotate = (): Desired => ({
    kind: 'rotate-peer',
    reason: 'try it',
    leaveSupernode: false,
    urgent: false,
    avoidExits: [],
  });
  const end = (): Desired => ({ kind: 'disconnect', reason: 'for now' });
  const kinds =
    kind === 'exit' ? [setup, setup, update, update, update, relay, rotate, end] : [relay, relay, setup, update, end];
  const desired = [setup(), ...Array.from({ length: LENGTH }, () => pick(kinds)()), setup()];
  return desired.map((one, i) => ({ owner, command: order(session, i + 1, one) }));
}

const order = (session: SessionId, generation: number, desired: Desired): Command => ({
  id: toHex(random.bytes(16)) as CommandId,
  session,
  generation,
  lease: hours(10),
  desired,
});

for (const kind of ['exit', 'supernode'] as const) {
  t.test(
    `${kind}: ${DELIVERIES} commands, doubled, late and replayed, end as those in order do (seed ${SEED})`,
    async (t) => {
      const stories = Array.from({ length: SESSIONS }, (_, n) => story(kind, n));
      const plain = await node(kind);
      for (const one of stories.flat()) await plain.take([one]);
      await plain.settle();
      t.not(plain.kernel.print(), plain.fixed);

      // A supervisor goes on once it was answered. What it sent before may come again at any time after.
      const tried = await node(kind);
      const ahead = stories.map((story) => [...story]);
      const past: Sent[] = [];
      let deliveries = 0;
      while (deliveries < DELIVERIES || ahead.some((story) => story.length > 0)) {
        const fresh = ahead.flatMap((story) => (random.fraction() < 0.2 ? story.splice(0, 1) : []));
        const again = past.length === 0 ? [] : Array.from({ length: 30 }, () => spoiled(pick(past)));
        await tried.take(shuffled([...fresh, ...fresh, ...again]));
        past.push(...fresh);
        deliveries += 2 * fresh.length + again.length;
      }
      await tried.settle();
      t.equal(tried.kernel.print(), plain.kernel.print());
      t.same((await tried.reconcile()).repaired, []);

      const ends = stories.map((story) => {
        const { owner, command } = story.at(-1) as Sent;
        return {
          owner,
          command: order(command.session, command.generation + 1, { kind: 'disconnect', reason: 'done' }),
        };
      });
      for (let n = 0; n < 20; n++) {
        await tried.take(shuffled([...ends, ...ends, ...Array.from({ length: 50 }, () => spoiled(pick(past)))]));
      }
      await tried.settle();
      t.equal(tried.kernel.print(), tried.fixed, 'nothing is left');
      t.same(
        tried.store.ledger.sessions().filter((one) => one.desired.length > 0),
        [],
      );
    },
  );
}

/** Mostly as it was; sometimes another supervisor's, or with other content under the same id. */
function spoiled({ owner, command }: Sent): Sent {
  const chance = random.fraction();
  if (chance < 0.1) return { owner: STRANGER, command };
  return { owner, command: chance < 0.2 ? { ...command, lease: seconds(1) } : command };
}

function shuffled<T>(list: readonly T[]): readonly T[] {
  return list
    .map((one) => [random.fraction(), one] as const)
    .sort(([a], [b]) => a - b)
    .map(([, one]) => one);
}
