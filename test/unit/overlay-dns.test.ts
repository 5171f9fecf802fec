import t from 'tap';
import { type MemoryDns, openMemoryDns } from '../../dataplane/dns-memory.js';
import type { Dns } from '../../src/core/ports/dns.js';
import type { IpAddress } from '../../src/model/address.js';
import { VpndError } from '../../src/model/errors.js';
import { ms, seconds } from '../../src/model/time.js';
import { overlayWorld, type WorldOptions } from '../support/overlay-world.js';

const QUAD9 = ['9.9.9.9' as IpAddress];

/** A client in `us`, exits in two regions, and the client's machine with its resolver, which outlives every process. */
async function scene(client: Partial<NonNullable<WorldOptions['clients']>[number]> = {}, takes = 0) {
  const resolver = openMemoryDns();
  const asOf = (alive: () => boolean, pause: () => Promise<void>): Dns => {
    // A process that dies in the middle has changed nothing, or everything.
    const act = async <T>(task: () => Promise<T>): Promise<T> => {
      await pause();
      if (!alive()) return new Promise(() => {});
      const done = await task();
      await pause();
      return alive() ? done : new Promise(() => {});
    };
    return {
      put: (wish) => act(() => resolver.put(wish)),
      restore: (devices) => act(() => resolver.restore(devices)),
      way: () => resolver.way(),
      close: async () => {},
    };
  };
  const world = await overlayWorld({
    supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'ap' }],
    exits: [{ region: 'eu' }, { region: 'ap' }],
    clients: [{ region: 'us', dns: QUAD9, ...client }],
    ports: (machine, ports) => {
      if (machine.role !== 'client') return ports;
      const { clock } = ports;
      const pause = () =>
        takes === 0 ? Promise.resolve() : new Promise<void>((go) => void clock.after(ms(takes), go));
      return { ...ports, dns: asOf(() => machine.clock === clock && machine.clock.alive, pause) };
    },
  });
  return { world, resolver };
}

const problems = async (world: Awaited<ReturnType<typeof scene>>['world']): Promise<readonly string[]> =>
  ((await world.status('c0')).problems ?? []).filter((text) => /names/.test(text));

t.test('names follow the tunnel: up, down, and nothing is touched before', async (t) => {
  const { world, resolver } = await scene();
  t.equal(resolver.writes, 0);
  await world.up('c0', { region: 'eu' });
  t.match(resolver.wish, { device: 'wg-client', servers: QUAD9 });
  t.match((await world.status('c0')).facts, { dns: '9.9.9.9 through the tunnel, by memory' });
  await world.down('c0');
  t.equal(resolver.wish, undefined);
  t.match((await world.status('c0')).facts, { dns: 'left alone while no tunnel is wanted' });
  t.same(await problems(world), []);
});

t.test('a first exit that cannot be had leaves the resolver alone', async (t) => {
  const { world, resolver } = await scene();
  t.match(await world.refusal('c0', { region: 'moon' }), { code: 'no-exit' });
  await world.advance(seconds(60));
  t.equal(resolver.writes, 0);
});

t.test(
  'names are restored before the tunnel goes, so that its resolvers are never asked from the machine’s own address',
  async (t) => {
    const { world, resolver } = await scene();
    await world.up('c0', { region: 'eu' });
    let tunnelWasThere = false;
    const { restore } = resolver;
    resolver.restore = async (devices) => {
      tunnelWasThere = /full-tunnel/.test(world.node('c0').print());
      return restore(devices);
    };
    await world.down('c0');
    t.ok(tunnelWasThere);
  },
);

t.test('rotation and failover: the tunnel in use is told, the resolvers stay', async (t) => {
  const { world, resolver } = await scene({ standby: true });
  await world.up('c0');
  await world.advance(seconds(20));
  const first = resolver.wish?.device;
  await world.rotate('c0');
  await world.advance(seconds(1));
  t.not(resolver.wish?.device, first);
  t.equal(resolver.wish?.device, (await world.session('c0'))?.device);
  t.same(resolver.wish?.servers, QUAD9);
  t.notOk(resolver.wish?.others.includes(resolver.wish.device));
  await world.advance(seconds(20));
  const exit = world.way('c0');
  world.crash(exit.ok ? exit.exit.name : '', 'power-off');
  await world.until('another exit', () => world.way('c0').ok);
  await world.advance(seconds(2));
  t.equal(resolver.wish?.device, (await world.session('c0'))?.device);
  t.same(resolver.wish?.servers, QUAD9);
});

t.test('while traffic is held names are held with it', async (t) => {
  const { world, resolver } = await scene({ standby: false });
  await world.up('c0', { region: 'eu' });
  world.crash('x0', 'power-off');
  world.crash('x1', 'power-off');
  await world.advance(seconds(60));
  t.match(await world.session('c0'), { state: 'waiting' });
  t.same(resolver.wish?.servers, QUAD9);
});

t.test('somebody else rewrites it: put back within seconds, and said', async (t) => {
  const { world, resolver } = await scene();
  await world.up('c0', { region: 'eu' });
  resolver.rewrite();
  await world.advance(seconds(3.5));
  t.same(resolver.wish?.servers, QUAD9);
  const events = world.node('c0').running.local.events?.(50) ?? [];
  t.ok(events.some(({ code, text }) => code === 'repaired' && /resolver/.test(text)));
  const writes = resolver.writes;
  await world.advance(seconds(60));
  t.equal(resolver.writes, writes, 'what is right is not written again');
});

t.test('kill -9 at any moment of up and of down: the next start does what is wished for', async (t) => {
  for (const verb of ['up', 'down'] as const) {
    for (let after = 0; after <= 700; after += 50) {
      const { world, resolver } = await scene({}, 100);
      if (verb === 'down') await world.up('c0', { region: 'eu' });
      const asked = verb === 'up' ? world.upSoon('c0', { region: 'eu' }) : world.downSoon('c0');
      asked.catch(() => {});
      await world.advance(after);
      await world.restart('c0');
      await world.advance(seconds(15));
      const isWished = world.node('c0').store.facts.get('wish') !== undefined;
      t.equal(resolver.wish !== undefined, isWished, `${verb}, killed after ${after} ms`);
      await world.down('c0');
      t.equal(resolver.wish, undefined);
    }
  }
});

t.test('a stopped daemon leaves names where it leaves the traffic', async (t) => {
  const { world, resolver } = await scene();
  await world.up('c0', { region: 'eu' });
  await world.stop('c0');
  t.same(resolver.wish?.servers, QUAD9, 'in the tunnel, which stays');
  await world.start('c0');
  await world.down('c0');
  await world.stop('c0');
  t.equal(resolver.wish, undefined);
});

t.test('it cannot be changed: the tunnel comes up, one clear problem, and it is tried again', async (t) => {
  const { world, resolver } = await scene();
  resolver.fault = new VpndError('dataplane', '/etc/resolv.conf cannot be changed: its file system is read-only');
  await world.up('c0', { region: 'eu' });
  t.match(await world.session('c0'), { state: 'up' });
  await world.advance(seconds(60));
  const said = await problems(world);
  t.equal(said.length, 1);
  t.match(said[0], /^names are not asked through the tunnel: \/etc\/resolv\.conf cannot be changed: .*read-only/);
  t.match(await world.status('c0'), { facts: { dns: 'not through the tunnel' } });
  t.equal(world.said('c0', /resolver could not be set/).length, 1, 'once in the log');
  resolver.fault = undefined;
  await world.advance(seconds(10));
  t.same(await problems(world), []);
  t.same(resolver.wish?.servers, QUAD9);

  resolver.fault = new VpndError('disk-full', '/etc/resolv.conf cannot be changed: the disk is full');
  t.match(await world.down('c0'), { wasUp: true }, 'down all the same');
  t.match(await problems(world), [/may still be asked .*disk is full/]);
  resolver.fault = undefined;
  await world.advance(seconds(10));
  t.equal(resolver.wish, undefined, 'and made good later');
  t.same(await problems(world), []);
});

t.test('--dns off leaves it alone, and undoes what an earlier run had set', async (t) => {
  const { world, resolver } = await scene({ dns: undefined });
  await world.up('c0', { region: 'eu' });
  await world.advance(seconds(30));
  t.equal(resolver.writes, 0);
  t.match((await world.status('c0')).facts, { dns: 'left alone' });
  await resolver.put({ device: 'wg-client' as never, servers: QUAD9, others: [] });
  await world.restart('c0');
  await world.advance(seconds(5));
  t.equal(resolver.wish, undefined);
});

t.test('a supernode that is known by name is reached while names are held', async (t) => {
  const resolver: MemoryDns = openMemoryDns();
  const dialled: string[] = [];
  const world = await overlayWorld({
    supernodes: [
      { region: 'us', advertise: [{ host: 'a.example.org', port: 443 as never }] },
      { region: 'eu', advertise: [{ host: '198.51.100.11', port: 443 as never }] },
    ],
    ports: (machine, ports) => {
      if (machine.role !== 'client') return ports;
      const { network } = ports;
      return {
        ...ports,
        dns: resolver,
        network: {
          ...network,
          dialControl: (target, options) => {
            dialled.push(target.address.host);
            // What a name gives while names go nowhere.
            const host =
              target.address.host === 'a.example.org' && resolver.wish === undefined
                ? '198.51.100.10'
                : target.address.host;
            if (host === 'a.example.org') return Promise.reject(new VpndError('unreachable', 'EAI_AGAIN'));
            return network.dialControl({ ...target, address: { ...target.address, host } }, options);
          },
        },
      };
    },
  });
  await world.up('c0', { region: 'eu' });
  dialled.length = 0;
  await world.restart('c0');
  await world.until('its stream', () => world.node('c0').running.health().ok);
  t.ok(dialled.includes('198.51.100.10'), 'by the address that it has as a relay');
});
