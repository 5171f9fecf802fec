import { create } from '@bufbuild/protobuf';
import type { BaseConfig, ClientConfig, ExitConfig, SupernodeConfig } from '../../src/config/types.js';
import { NO_AUDIT } from '../../src/core/ports/audit.js';
import type { Random } from '../../src/core/ports/random.js';
import { CreateTokenRequestSchema } from '../../src/gen/vpnd/v1/admin_pb.js';
import { parseJoinToken } from '../../src/identity/join-token.js';
import { mlKem768 } from '../../src/identity/ml-kem.js';
import { openSodium } from '../../src/identity/sodium.js';
import { statements as openStatements } from '../../src/identity/statements.js';
import { wireRole } from '../../src/identity/wire-roles.js';
import type { Endpoint, IpAddress } from '../../src/model/address.js';
import { toBase64 } from '../../src/model/bytes.js';
import { toVpndError, type VpndError } from '../../src/model/errors.js';
import type { WireGuardKeyPair, WireGuardPrivateKey } from '../../src/model/keys.js';
import type { JoinToken } from '../../src/model/messages.js';
import type { MemberRole } from '../../src/model/role.js';
import { hours, type Millis, ms } from '../../src/model/time.js';
import { startBase } from '../../src/roles/base/index.js';
import { startClient } from '../../src/roles/client/index.js';
import { startExit } from '../../src/roles/exit/index.js';
import type { ForwardingPorts } from '../../src/roles/ports.js';
import { startSupernode } from '../../src/roles/supernode/index.js';
import { memoryCertificates } from '../../src/transport/memory/certificates.js';
import { baseConfig, clientConfig, exitConfig, supernodeConfig } from './overlay-world/configs.js';
import { end, faults } from './overlay-world/faults.js';
import { behindTunnels } from './overlay-world/killswitch.js';
import { kernelOf, type Line, lineLog, Machine } from './overlay-world/machine.js';
import type { Nat, NatBehaviour, NatKind } from './overlay-world/nat.js';
import { PacketPlane, type Way } from './overlay-world/packet-plane.js';
import { ProcessClock } from './overlay-world/process-clock.js';
import { tampered } from './overlay-world/tampering.js';
import { Traffic } from './overlay-world/traffic.js';
import { Underlay } from './overlay-world/underlay.js';
import { usersOf } from './overlay-world/users.js';
import { watchedStore } from './overlay-world/watched-store.js';
import { whileRunning } from './overlay-world/while-running.js';
import { isLoopback } from './overlay-world/wire.js';
import { seededRandom } from './seeded-random.js';
import { VirtualClock } from './virtual-clock.js';

export type { Machine } from './overlay-world/machine.js';

const { crypto } = await openSodium();

/** Where a peer is: `port-preserving` where no router is named, as most homes have. */
interface Home {
  readonly region: string;
  readonly nat?: NatKind | NatBehaviour;
  /** Those that name the same one share its router, and the address that their UDP comes from. */
  readonly home?: string;
}

export interface WorldOptions {
  readonly seed?: number;
  readonly base?: Partial<BaseConfig>;
  /** Named a, b, c, … */
  readonly supernodes?: readonly ({ readonly region: string } & Partial<Omit<SupernodeConfig, 'region'>>)[];
  /** Named x0, x1, … */
  readonly exits?: readonly (Home & Partial<Omit<ExitConfig, 'region'>>)[];
  /** Named c0, c1, … */
  readonly clients?: readonly (Home & Partial<Omit<ClientConfig, 'region'>>)[];
  /** One way, between any two. */
  readonly latency?: Millis;
  /** Of sessions, at every supernode. */
  readonly lease?: Millis;
  /** Puts something in the place of a port, or in front of it, whenever a process starts. */
  readonly ports?: (machine: Machine, ports: ForwardingPorts) => ForwardingPorts;
}

export type OverlayWorld = Awaited<ReturnType<typeof overlayWorld>>;

/**
 * The whole overlay in one process: the roles' real code over an in-memory network, store and kernel, in virtual time,
 * chance from one seed. By default base, supernode a in `us` with a client, supernode b in `eu` with an exit.
 * All of it is up and connected when this resolves.
 */
export async function overlayWorld(options: WorldOptions = {}) {
  const seed = options.seed ?? 1;
  const clock = new VirtualClock();
  const chance = (name: string): Random => seededRandom(seedOf(`${seed} ${name}`));
  const latency = options.latency ?? ms(5);
  const lines: Line[] = [];
  const machines = new Map<string, Machine>();
  const underlay = new Underlay({ clock, crypto, chance, latency, machines: () => all() });
  const { internet } = underlay;
  const statements = openStatements(crypto);
  const packets = new PacketPlane({
    machines: () => all(),
    open: (from, to) => underlay.open(from, to),
    publicKeyOf: (device) => underlay.publicKeyOf(device),
  });
  /** Packets that left outside a tunnel although one was wanted, in words. */
  const leaks: string[] = [];

  const all = (): readonly Machine[] => [...machines.values()];
  const node = (name: string): Machine => {
    const found = machines.get(name);
    if (found === undefined) throw new Error(`no node is called ${name}`);
    return found;
  };

  const homes = new Map<string, { readonly nat: Nat; readonly ip: IpAddress }>();
  const behind = (name: string | undefined, nat: NatKind | NatBehaviour) => {
    if (name === undefined) return undefined;
    const found = homes.get(name) ?? {
      nat: underlay.nat(nat, `home ${name}`),
      ip: `203.0.113.${200 + homes.size}` as IpAddress,
    };
    homes.set(name, found);
    return found;
  };

  const add = (
    name: string,
    role: Machine['role'],
    ip: string,
    nat: NatKind | NatBehaviour,
    boot: Machine['boot'],
    home?: string,
  ): Machine => {
    const shared = behind(home, nat);
    const random = chance(name);
    const identity = crypto.identityFromSeed(random.bytes(32));
    const made = new Machine(
      name,
      role,
      identity,
      keyPair(random),
      random,
      ip as IpAddress,
      shared?.nat ?? underlay.nat(nat, name),
      (machine) => underlay.host(machine),
      boot,
    );
    made.udpIp = shared?.ip;
    machines.set(name, made);
    return made;
  };

  /** Chance of its own, so that a world without post-quantum keys goes the same way; no restart brings it back. */
  const kemChance = new Map<string, Random>();
  const kemOf = (name: string) => {
    const random = kemChance.get(name) ?? chance(`${name} ML-KEM`);
    kemChance.set(name, random);
    return mlKem768((length) => random.bytes(length));
  };

  const portsOf = (machine: Machine, own: ProcessClock): ForwardingPorts => {
    const ports = plainPortsOf(machine, own);
    return options.ports?.(machine, ports) ?? ports;
  };
  const plainPortsOf = (machine: Machine, own: ProcessClock): ForwardingPorts => {
    const { random } = machine;
    const log = lineLog(lines, machine.name, () => clock.monotonic(), own);
    const store = watchedStore(machine.store, (when) => machine.deed('write', when));
    let ip = machine.ip;
    let host = internet.host(ip, { clock: own, log });
    // The machine may get another address while its process runs.
    const under = () => {
      if (machine.ip !== ip) {
        ip = machine.ip;
        host = internet.host(ip, { clock: own, log });
      }
      return host;
    };
    const process = {
      clock: own,
      alive: () => own.running,
      ip: () => machine.publicIp,
      leaves: (to: Endpoint) => machine.host.leavesBeside('udp', to),
    };
    return {
      clock: own,
      random,
      crypto: { ...crypto, ...kemOf(machine.name), wireGuardKeyPair: () => keyPair(random) },
      statements,
      certificates: memoryCertificates(random),
      network: whileRunning(
        behindTunnels(
          tampered(
            under,
            () => machine.tampering,
            (when) => machine.deed('message', when),
          ),
          machine.host,
        ),
        own,
      ),
      store,
      log,
      audit: NO_AUDIT,
      metrics: machine.metrics,
      version: 'vpnd/test',
      dataplane: kernelOf(machine, own),
      datagrams: underlay.udp.of(process),
      reach: underlay.reach(machine, own),
      networkWatch: machine.watch.of(own),
      udpSockets: machine.host.sockets.of(
        {
          get alive() {
            return own.running;
          },
        },
        (ip) => ip === machine.publicIp || ip === '0.0.0.0' || isLoopback(ip),
      ),
      hostLoad: () => ({ cpuPercent: 0, txMbps: 0, rxMbps: 0 }),
    };
  };

  const tokens = new Map<string, JoinToken>();
  const keysOf = (machine: Machine) => ({
    identity: machine.identity,
    wireguard: machine.wireguard,
    keepWireguard: (pair: WireGuardKeyPair) => {
      machine.wireguard = pair;
    },
    joinToken: tokens.get(machine.name),
  });

  const authority = await memoryCertificates(chance('authority')).newAuthority(clock.now());
  const base = add('base', 'base', '192.0.2.1', 'none', (machine, own) =>
    startBase(
      baseConfig(machine.name, machine.ip, options.base),
      { ...portsOf(machine, own), store: watchedStore(machine.store, (when) => machine.deed('write', when)) },
      { identity: machine.identity, authority: authority.authority, privateKey: authority.identity.privateKey },
    ),
  );

  /** Settles once the daemon runs, or died on the way; rejects with why it gave up. */
  const startSoon = async (name: string): Promise<Machine> => {
    const machine = node(name);
    const own = new ProcessClock(clock, () => machine.skew);
    machine.clock = own;
    machine.powered = true;
    try {
      const role = await Promise.race([machine.boot(machine, own), own.died]);
      if (role !== undefined && own.alive) {
        machine.process = { clock: own, role };
        machine.booting = false;
      }
    } catch (thrown) {
      if (own.alive) end({ underlay }, machine, 'process');
      throw thrown;
    }
    return machine;
  };
  const start = (name: string): Promise<Machine> => clock.run(startSoon(name));

  /** From now on `name` is started with a token that nobody has used. */
  const giveToken = async (name: string, role: MemberRole, region: string, egress = false): Promise<void> => {
    const made = await base.running.local.createToken?.(
      create(CreateTokenRequestSchema, { role: wireRole(role), region, egress, ttlMs: BigInt(hours(24)), uses: 1 }),
    );
    const parsed = parseJoinToken(made?.token ?? '', crypto.sha256);
    if (!parsed.ok) throw parsed.error;
    tokens.set(name, parsed.value);
  };
  const join = async (...whom: Parameters<typeof giveToken>): Promise<void> => {
    await giveToken(...whom);
    await start(whom[0]);
  };

  const traffic = (machine: Machine, packetsPerSecond: number, kind: 'packets' | 'connection'): Traffic =>
    new Traffic(
      machine,
      ms(1_000 / packetsPerSecond),
      {
        clock,
        fresh: underlay.questions.fresh,
        expect: (id, answered) => underlay.questions.expect(id, answered),
        beside: () => {
          if (machine.wantsTunnel && !machine.booting)
            leaks.push(`${clock.monotonic()}: a packet of ${machine.name} left outside its tunnel`);
        },
      },
      kind,
    );

  const users = usersOf({ clock, node });
  const world = {
    clock,
    crypto,
    internet,
    statements,
    lines,
    leaks,
    node,
    all,
    ...faults({ underlay, node, all }),
    ...users,
    base,
    of: (role: Machine['role']) => all().filter((one) => one.role === role),

    /** Let so many milliseconds pass. */
    advance: (duration: number) => clock.advance(duration),
    /** Let time pass until something is so; throws after `limit` milliseconds. */
    async until(what: string, so: () => boolean, limit = 60_000): Promise<number> {
      const began = clock.monotonic();
      while (!so()) {
        if (clock.monotonic() - began >= limit) throw new Error(`not within ${limit} ms: ${what}`);
        await clock.advance(100);
      }
      return clock.monotonic() - began;
    },
    /** Let time pass until `work` settles: what it gives, or the VpndError it throws. */
    async outcome<T>(work: Promise<T>): Promise<T | VpndError> {
      return clock.run(work.catch(toVpndError));
    },

    /** The process is stopped in an orderly way. */
    async stop(name: string): Promise<readonly string[]> {
      const machine = node(name);
      const left = await clock.run(machine.running.stop());
      end({ underlay }, machine, 'process');
      return left;
    },
    start,
    startSoon,
    giveToken,
    /** What a new process on the same disk and kernel makes of it. */
    async restart(name: string): Promise<Machine> {
      const machine = node(name);
      if (machine.clock?.alive) end({ underlay }, machine, 'process');
      return start(name);
    },
    /** Where packets of the client's active tunnel go, or of one device's, by what every kernel on the way holds. */
    way: (name: string, device?: string): Way => packets.wayOf(node(name), device),
    /** A program on a machine that asks the internet something so many times a second. */
    traffic: (name: string, packetsPerSecond = 50): Traffic => traffic(node(name), packetsPerSecond, 'packets'),
    /** The same over one connection, which keeps the address it began with. */
    connection: (name: string, packetsPerSecond = 50): Traffic => traffic(node(name), packetsPerSecond, 'connection'),
    /** All kernels and what stores hold of sessions, as text. */
    print: () =>
      all()
        .map((one) => `${one.name}\n${one.print()}\n${one.sessionRecords().join('\n')}`)
        .join('\n'),
    /** What any node still has of any session. */
    residue: () =>
      all().flatMap((one) => [...one.sessionUnits(), ...one.sessionRecords()].map((what) => `${one.name}: ${what}`)),
    said: (name: string, text: RegExp) => lines.filter((line) => line.node === name && text.test(line.text)),
  };

  await start('base');
  for (const [i, { region, ...change }] of (options.supernodes ?? [{ region: 'us' }, { region: 'eu' }]).entries()) {
    const name = String.fromCharCode(97 + i);
    add(name, 'supernode', `198.51.100.${10 + i}`, 'none', (machine, own) =>
      startSupernode(
        supernodeConfig(name, machine.ip, { lease: options.lease ?? hours(1), ...change }),
        portsOf(machine, own),
        keysOf(machine),
      ),
    );
    await join(name, 'supernode', region, change.egress);
    await users.untilConnected([name]);
  }
  // The directory travels to everybody before anybody needs it.
  await clock.advance(2_000);
  for (const [i, { region, nat, home, ...change }] of (options.exits ?? [{ region: 'eu' }]).entries()) {
    const name = `x${i}`;
    const router = nat ?? (change.publicEndpoint === undefined ? 'port-preserving' : 'none');
    const boot: Machine['boot'] = (machine, own) =>
      startExit(exitConfig(name, change), portsOf(machine, own), keysOf(machine));
    add(name, 'exit', `203.0.113.${10 + i}`, router, boot, home);
    await join(name, 'exit', region);
  }
  for (const [i, { region, nat, home, ...change }] of (options.clients ?? [{ region: 'us' }]).entries()) {
    const name = `c${i}`;
    const boot: Machine['boot'] = (machine, own) =>
      startClient(clientConfig(name, change), portsOf(machine, own), keysOf(machine));
    add(name, 'client', `203.0.113.${100 + i}`, nat ?? 'port-preserving', boot, home);
    await join(name, 'client', region);
  }
  await users.untilConnected(all().flatMap((one) => (one.role === 'base' ? [] : [one.name])));
  await clock.advance(1_000);
  return world;
}

function keyPair(random: Random) {
  return crypto.wireGuardFromPrivate(toBase64(random.bytes(32)) as WireGuardPrivateKey);
}

/** FNV-1a: names to seeds. */
function seedOf(text: string): number {
  let hash = 0x811c9dc5;
  for (const char of text) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193) >>> 0;
  return hash;
}
