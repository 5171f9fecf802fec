import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { BaseConfig, ClientConfig, ExitConfig, SupernodeConfig } from '../../src/config/types.js';
import type { Random } from '../../src/core/ports/random.js';
import {
  CreateTokenRequestSchema,
  type NodeStatusSchema,
  type SessionStatusSchema,
  UpRequestSchema,
} from '../../src/gen/vpnd/v1/admin_pb.js';
import { parseJoinToken } from '../../src/identity/join-token.js';
import { openSodium } from '../../src/identity/sodium.js';
import { statements as openStatements } from '../../src/identity/statements.js';
import { wireRole } from '../../src/identity/wire-roles.js';
import type { IpAddress } from '../../src/model/address.js';
import { toBase64 } from '../../src/model/bytes.js';
import { toVpndError, type VpndError } from '../../src/model/errors.js';
import type { WireGuardPrivateKey } from '../../src/model/keys.js';
import type { JoinToken } from '../../src/model/messages.js';
import type { MemberRole } from '../../src/model/role.js';
import { hours, instantOf, type Millis, ms } from '../../src/model/time.js';
import { startBase } from '../../src/roles/base/index.js';
import { startClient } from '../../src/roles/client/index.js';
import { startExit } from '../../src/roles/exit/index.js';
import type { ForwardingPorts } from '../../src/roles/ports.js';
import { startSupernode } from '../../src/roles/supernode/index.js';
import { memoryCertificates } from '../../src/transport/memory/certificates.js';
import { MemoryInternet } from '../../src/transport/memory-network.js';
import { baseConfig, clientConfig, exitConfig, supernodeConfig } from './overlay-world/configs.js';
import { kernelOf, type Line, lineLog, Machine } from './overlay-world/machine.js';
import { MemoryUdp } from './overlay-world/memory-datagrams.js';
import { MemoryNetworkWatch } from './overlay-world/memory-network-watch.js';
import { memoryReach, type Probe } from './overlay-world/memory-reach.js';
import { MachineSockets } from './overlay-world/memory-udp-sockets.js';
import { type PacketMachine, PacketPlane, type Way } from './overlay-world/packet-plane.js';
import { ProcessClock } from './overlay-world/process-clock.js';
import { tampered } from './overlay-world/tampering.js';
import { seededRandom } from './seeded-random.js';
import { VirtualClock } from './virtual-clock.js';

export type { Machine } from './overlay-world/machine.js';

const { crypto } = await openSodium();

export interface WorldOptions {
  readonly seed?: number;
  readonly base?: Partial<BaseConfig>;
  /** Named a, b, c, … */
  readonly supernodes?: readonly ({ readonly region: string } & Partial<Omit<SupernodeConfig, 'region'>>)[];
  /** Named x0, x1, … */
  readonly exits?: readonly ({ readonly region: string } & Partial<Omit<ExitConfig, 'region'>>)[];
  /** Named c0, c1, … */
  readonly clients?: readonly ({ readonly region: string } & Partial<Omit<ClientConfig, 'region'>>)[];
  /** One way, between any two. */
  readonly latency?: Millis;
  /** Of sessions, at every supernode. */
  readonly lease?: Millis;
}

export interface Wish {
  readonly region?: string;
  readonly exit?: string;
}

type Status = MessageInitShape<typeof NodeStatusSchema>;
type SessionStatus = MessageInitShape<typeof SessionStatusSchema>;

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
  const internet = new MemoryInternet({
    clock,
    random: chance('internet'),
    latency: () => latency,
  });
  const udpAnyway = new Set<string>();
  const between = (a: IpAddress, b: IpAddress) => [a, b].sort().join(' ');
  const open = (from: IpAddress, to: IpAddress) => internet.open(from, to) || udpAnyway.has(between(from, to));
  const udp = new MemoryUdp({ latency: () => latency, open });
  const statements = openStatements(crypto);
  const packets = new PacketPlane({
    machines: () => all().map(packetMachine),
    open,
    now: () => instantOf(Math.floor(clock.now())),
    crypto,
  });

  const all = (): readonly Machine[] => [...machines.values()];
  const node = (name: string): Machine => {
    const found = machines.get(name);
    if (found === undefined) throw new Error(`no node is called ${name}`);
    return found;
  };

  const add = (name: string, role: Machine['role'], ip: string, boot: Machine['boot']): Machine => {
    const random = chance(name);
    const identity = crypto.identityFromSeed(random.bytes(32));
    const made = new Machine(name, role, identity, keyPair(random), random, ip as IpAddress, boot);
    machines.set(name, made);
    return made;
  };

  const watches = new Map<Machine, MemoryNetworkWatch>();
  const watchOf = (machine: Machine): MemoryNetworkWatch => {
    const made =
      watches.get(machine) ??
      new MemoryNetworkWatch(() => ({ fingerprint: `from ${machine.ip}`, connected: machine.powered }));
    watches.set(machine, made);
    return made;
  };
  const probeFrom =
    (machine: Machine, own: ProcessClock): Probe =>
    (to, from, answered) => {
      const way = from === undefined ? undefined : packets.wayOf(packetMachine(machine));
      const trips = way === undefined ? 2 : way.ok ? 2 * (way.hops.length + 1) : 0;
      const reached = way === undefined ? open(machine.ip, to.ip) : way.ok;
      if (reached) own.after(ms(trips * latency), answered);
    };
  const sockets = new MachineSockets({ carry: () => {} });

  const portsOf = (machine: Machine, own: ProcessClock): ForwardingPorts => {
    const { random } = machine;
    const log = lineLog(lines, machine.name, () => clock.monotonic());
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
    const process = { clock: own, alive: () => own.alive, ip: () => machine.udpIp ?? machine.ip };
    return {
      clock: own,
      random,
      crypto: { ...crypto, wireGuardKeyPair: () => keyPair(random) },
      statements,
      certificates: memoryCertificates(random),
      network: tampered(under, () => machine.tampering),
      store: machine.store,
      log,
      metrics: machine.metrics,
      version: 'vpnd/test',
      dataplane: kernelOf(machine, own, () => packets.refresh(packetMachine(machine))),
      datagrams: udp.of(process),
      reach: memoryReach(own, probeFrom(machine, own)),
      networkWatch: watchOf(machine).of(own),
      udpSockets: sockets.of(own, (ip) => ip === machine.ip || ip.startsWith('127.')),
      hostLoad: () => ({ cpuPercent: 0, txMbps: 0, rxMbps: 0 }),
    };
  };

  const tokens = new Map<string, JoinToken>();
  const keysOf = ({ name, identity, wireguard }: Machine) => ({ identity, wireguard, joinToken: tokens.get(name) });

  const authority = await memoryCertificates(chance('authority')).newAuthority(clock.now());
  const base = add('base', 'base', '192.0.2.1', (machine, own) =>
    startBase(
      baseConfig(machine.name, machine.ip, options.base),
      { ...portsOf(machine, own), store: machine.store },
      { identity: machine.identity, authority: authority.authority },
    ),
  );

  const start = async (name: string): Promise<Machine> => {
    const machine = node(name);
    const own = new ProcessClock(clock);
    machine.clock = own;
    machine.powered = true;
    const role = await clock.run(machine.boot(machine, own));
    machine.process = { clock: own, role };
    return machine;
  };

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

  const gone = (machine: Machine, how: 'process' | 'power-off'): void => {
    machine.clock?.die();
    internet.kill(machine.ip, how);
    udp.forget(machine.udpIp ?? machine.ip);
    machine.process = undefined;
    machine.store = machine.store.reopen();
    machine.powered = how === 'process';
  };

  const world = {
    clock,
    crypto,
    internet,
    statements,
    lines,
    node,
    all,
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

    /** The process dies at once; kernel and disk stay. With `power-off` others see silence, and the kernel is silent too. */
    crash(name: string, how: 'process' | 'power-off' = 'process'): void {
      gone(node(name), how);
    },
    /** The process is stopped in an orderly way. */
    async stop(name: string): Promise<readonly string[]> {
      const machine = node(name);
      const left = await clock.run(machine.running.stop());
      gone(machine, 'process');
      return left;
    },
    start,
    giveToken,
    /** What a new process on the same disk and kernel makes of it. */
    async restart(name: string): Promise<Machine> {
      const machine = node(name);
      if (machine.clock?.alive) gone(machine, 'process');
      return start(name);
    },
    /** Nothing gets from one machine to the other; `control` cuts streams and calls, and lets UDP through. */
    partition(a: string, b: string, what: 'all' | 'control' = 'all'): void {
      if (what === 'control') udpAnyway.add(between(node(a).ip, node(b).ip));
      internet.partition(node(a).ip, node(b).ip);
    },
    heal(a: string, b: string): void {
      udpAnyway.delete(between(node(a).ip, node(b).ip));
      internet.heal(node(a).ip, node(b).ip);
    },
    /** The lid is closed: nothing runs and nothing is heard until `wake`. */
    sleep(name: string): void {
      node(name).clock?.sleep();
      internet.isolate(node(name).ip);
    },
    wake(name: string): void {
      internet.rejoin(node(name).ip);
      node(name).clock?.wake();
    },
    /** The machine is in another network from now on: connections it had hear nothing more. */
    move(name: string, ip: string): void {
      const machine = node(name);
      internet.kill(machine.ip, 'power-off');
      machine.ip = ip as IpAddress;
      watchOf(machine).changed();
    },

    /** `vpnd up` as a promise that virtual time has to bring to its end. */
    upSoon(name: string, wish: Wish = {}, signal = new AbortController().signal): Promise<Status> {
      const request = create(UpRequestSchema, { region: wish.region ?? '', exit: wish.exit ?? '' });
      return node(name).running.local.up?.(request, signal) ?? Promise.reject(new Error(`${name} is no client`));
    },
    up: (name: string, wish: Wish = {}): Promise<Status> => clock.run(world.upSoon(name, wish)),
    /** `vpnd up`: the error it ends with, or undefined. */
    async refusal(name: string, wish: Wish = {}): Promise<VpndError | undefined> {
      return clock.run(world.upSoon(name, wish).then(() => undefined, toVpndError));
    },
    async down(name: string) {
      const { down } = node(name).running.local;
      if (down === undefined) throw new Error(`${name} is no client`);
      return clock.run(down());
    },
    async status(name: string): Promise<Status> {
      return clock.run(node(name).running.local.status());
    },
    /** The client's one session as `vpnd status` shows it. */
    async session(name: string): Promise<SessionStatus | undefined> {
      return (await world.status(name)).sessions?.[0] as SessionStatus | undefined;
    },
    upstream: async (name: string) => (await world.status(name)).upstream,
    async connected(name: string): Promise<boolean> {
      return node(name).process !== undefined && (await world.upstream(name))?.state === 'up';
    },
    async untilConnected(names: readonly string[], limit = 60_000): Promise<void> {
      const began = clock.monotonic();
      for (const name of names) {
        while (!(await world.connected(name))) {
          if (clock.monotonic() - began > limit) throw new Error(`${name} is not connected after ${limit} ms`);
          await clock.advance(100);
        }
      }
    },
    /** Whether the client's packets reach an exit and come back, by what every kernel on the way holds. */
    way: (name: string): Way => packets.wayOf(packetMachine(node(name))),
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
    add(name, 'supernode', `198.51.100.${10 + i}`, (machine, own) =>
      startSupernode(
        supernodeConfig(name, machine.ip, { lease: options.lease ?? hours(1), ...change }),
        portsOf(machine, own),
        keysOf(machine),
      ),
    );
    await join(name, 'supernode', region, change.egress);
    await world.untilConnected([name]);
  }
  // The directory travels to everybody before anybody needs it.
  await clock.advance(2_000);
  for (const [i, { region, ...change }] of (options.exits ?? [{ region: 'eu' }]).entries()) {
    const name = `x${i}`;
    add(name, 'exit', `203.0.113.${10 + i}`, (machine, own) =>
      startExit(exitConfig(name, change), portsOf(machine, own), keysOf(machine)),
    );
    await join(name, 'exit', region);
  }
  for (const [i, { region, ...change }] of (options.clients ?? [{ region: 'us' }]).entries()) {
    const name = `c${i}`;
    add(name, 'client', `203.0.113.${100 + i}`, (machine, own) =>
      startClient(clientConfig(name, change), portsOf(machine, own), keysOf(machine)),
    );
    await join(name, 'client', region);
  }
  await world.untilConnected(all().flatMap((one) => (one.role === 'base' ? [] : [one.name])));
  await clock.advance(1_000);
  return world;
}

const packetMachine = ({ name, ip, udpIp, kernel, powered }: Machine): PacketMachine => ({
  name,
  ip: udpIp ?? ip,
  kernel,
  powered,
});

function keyPair(random: Random) {
  return crypto.wireGuardFromPrivate(toBase64(random.bytes(32)) as WireGuardPrivateKey);
}

/** FNV-1a: names to seeds. */
function seedOf(text: string): number {
  let hash = 0x811c9dc5;
  for (const char of text) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193) >>> 0;
  return hash;
}
