import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Log } from '../src/core/ports/log.js';
import { type Cidr, type Port, parseCidr } from '../src/model/address.js';
import type { DeviceUnit, InterfaceName } from '../src/model/dataplane.js';
import { VpndError } from '../src/model/errors.js';
import { parseList, runBatch } from './routing.js';
import type { Runner } from './run.js';
import { enableIpv6 } from './sysctl.js';
import { uapiRead, uapiWrite } from './uapi.js';
import { socketFree } from './uapi-socket.js';
import { wgRead, wgWrite } from './wg-tool.js';
import { type DeviceChange, type DeviceState, isEmptyChange } from './wireguard-state.js';

export type Engine = 'kernel' | 'userspace';

/** An interface as `ip` shows it. */
export interface LinkState {
  readonly name: InterfaceName;
  readonly alias: string | undefined;
  readonly engine: Engine | 'other';
  readonly mtu: number;
  readonly up: boolean;
  readonly addresses: readonly Cidr[];
}

/** How a device came to be as it should: what was written, and what is still to be said to `ip`. */
export interface PreparedDevice {
  readonly created: boolean;
  readonly engine: Engine;
  /** What it holds, before the peers. */
  readonly state: DeviceState;
  /** Key, port and mark where they differ; belongs into the same write as the peers. */
  readonly settings: Pick<DeviceChange, 'privateKey' | 'listenPort' | 'mark'>;
  /** Lines for `ip -batch`: alias, MTU, addresses, up. */
  readonly lines: readonly string[];
}

const EMPTY: DeviceState = { privateKey: undefined, listenPort: 0, mark: 0, peers: new Map() };

/**
 * WireGuard interfaces of one owner, recognised by their alias, `vpnd:exit`. Userspace ones are run by wireguard-go,
 * which puts itself into the background and lives on when this process dies; deleting the interface ends it.
 */
export class Devices {
  readonly alias: string;
  /** Engines of the devices known to be ours. */
  readonly #engines = new Map<InterfaceName, Engine>();
  /** How links stand since this process wrote them: a tunnel that follows at once need not ask `ip` again. */
  readonly #written = new Map<InterfaceName, LinkState>();

  constructor(
    private readonly runner: Runner,
    owner: string,
    private readonly engine: Engine,
    /** Whether a device of the other engine may stay as it is. */
    private readonly adoptOther: boolean,
    private readonly log: Log,
  ) {
    this.alias = `vpnd:${owner}`;
  }

  /** Our devices as the kernel has them, and those of these names whoever made them. */
  async list(names: ReadonlySet<string> = new Set()): Promise<readonly LinkState[]> {
    const links = parseLinks(await this.runner.run('ip', ['-j', '-d', 'addr', 'show']));
    for (const link of links) this.#remember(link);
    for (const name of this.#engines.keys()) if (!links.some((link) => link.name === name)) this.#engines.delete(name);
    return links.filter((link) => link.alias === this.alias || names.has(link.name));
  }

  names(): readonly InterfaceName[] {
    return [...this.#engines.keys()];
  }

  /** Without asking a program: it is asked before every tunnel. */
  exists(name: string): boolean {
    return readFileSync('/proc/self/net/dev', 'utf8')
      .split('\n')
      .some((line) => line.trimStart().startsWith(`${name}:`));
  }

  async inspect(name: InterfaceName): Promise<LinkState | undefined> {
    if (!this.exists(name)) return undefined;
    const json = await this.runner.run('ip', ['-j', '-d', 'addr', 'show', 'dev', name]).catch((thrown: unknown) => {
      // It went in between, as the device of a wireguard-go that was killed does.
      if (this.exists(name)) throw thrown;
      return '';
    });
    const link = parseLinks(json)[0];
    if (link !== undefined) this.#remember(link);
    return link;
  }

  isOurs(name: InterfaceName): boolean {
    return this.#engines.has(name);
  }

  /**
   * Make the device there, of the right kind; its key, port, addresses and MTU are told, not yet written. Throws
   * VpndError `dataplane` where an interface of that name is somebody else's.
   */
  async prepare(unit: DeviceUnit, known?: LinkState): Promise<PreparedDevice> {
    const written = known === undefined && this.exists(unit.name) ? this.#written.get(unit.name) : undefined;
    this.#written.delete(unit.name);
    const before = written === undefined ? undefined : await this.read(unit.name).catch(() => undefined);
    const link = before === undefined ? (known ?? (await this.inspect(unit.name))) : written;
    const usable = link !== undefined && (before !== undefined || (await this.#usable(link)));
    if (link !== undefined && !usable) await this.#delete(unit.name);
    const created = !usable;
    if (created) await this.#create(unit.name);
    const engine = usable && link.engine !== 'other' ? link.engine : this.engine;
    this.#engines.set(unit.name, engine);
    const state = before ?? (created ? EMPTY : await this.read(unit.name));
    if (unit.addresses.some((address) => address.includes(':'))) enableIpv6(unit.name);
    const moves = unit.listenPort !== undefined && unit.listenPort !== state.listenPort;
    if (unit.listenPort !== undefined && moves) await requireFreePort(unit.listenPort);
    return {
      created,
      engine,
      state,
      settings: {
        ...(state.privateKey === unit.privateKey ? {} : { privateKey: unit.privateKey }),
        ...(unit.listenPort !== undefined && moves ? { listenPort: unit.listenPort } : {}),
        ...((unit.mark ?? 0) === state.mark ? {} : { mark: unit.mark ?? 0 }),
      },
      lines: linkLines(unit, this.alias, created ? undefined : link),
    };
  }

  /** What `prepare` told for this unit has been written, its lines included. */
  settled(unit: DeviceUnit): void {
    const { name, mtu, addresses } = unit;
    const engine = this.#engines.get(name);
    if (engine !== undefined) this.#written.set(name, { name, alias: this.alias, engine, mtu, up: true, addresses });
  }

  async read(name: InterfaceName): Promise<DeviceState> {
    return (await this.#engineOf(name)) === 'kernel' ? wgRead(this.runner, name) : uapiRead(name);
  }

  /** One write. `state` is what the device holds before it. */
  async write(name: InterfaceName, change: DeviceChange, state: DeviceState): Promise<void> {
    if (isEmptyChange(change)) return;
    if ((await this.#engineOf(name)) === 'kernel') await wgWrite(this.runner, name, change, state);
    else await uapiWrite(name, change);
  }

  /** Several commands of `ip`, such as `PreparedDevice.lines`. */
  batch(lines: readonly string[]): Promise<void> {
    return runBatch(this.runner, lines);
  }

  /** No error where there is none, or where it is somebody else's. */
  async remove(name: InterfaceName): Promise<void> {
    const link = await this.inspect(name);
    this.#engines.delete(name);
    this.#written.delete(name);
    if (link !== undefined && link.alias === this.alias) await this.#delete(name);
  }

  async #delete(name: InterfaceName): Promise<void> {
    this.#engines.delete(name);
    this.#written.delete(name);
    try {
      await this.runner.run('ip', ['link', 'del', 'dev', name]);
    } catch (thrown) {
      if (this.exists(name)) throw thrown;
    }
  }

  async #engineOf(name: InterfaceName): Promise<Engine> {
    const known = this.#engines.get(name);
    if (known !== undefined && this.exists(name)) return known;
    const link = await this.inspect(name);
    if (link === undefined) throw new VpndError('dataplane', `there is no device ${name}`, { retryable: true });
    if (link.engine === 'other' || link.alias !== this.alias) throw foreign(name);
    return link.engine;
  }

  #remember(link: LinkState): void {
    if (link.alias === this.alias && link.engine !== 'other') this.#engines.set(link.name, link.engine);
  }

  /** False for one of ours that has to be made anew. */
  async #usable(link: LinkState): Promise<boolean> {
    if (link.alias === undefined && link.engine !== 'other') {
      // A crash between making a device and naming its owner leaves one that holds nothing: that one is adopted. One
      // that has its key and was never brought up is what is left where `ip` failed then: it is made anew.
      this.#engines.set(link.name, link.engine);
      const state = await this.read(link.name).catch(() => undefined);
      if (state !== undefined && link.addresses.length === 0) {
        if (state.privateKey === undefined) return true;
        if (!link.up) return false;
      }
      this.#engines.delete(link.name);
    }
    if (link.alias !== this.alias) throw foreign(link.name);
    if (link.engine === 'other') return false;
    if (link.engine !== this.engine && !this.adoptOther) return false;
    try {
      await this.read(link.name);
      return true;
    } catch (err) {
      this.log.warn('a WireGuard device does not answer and is made anew', { unit: `device/${link.name}`, err });
      return false;
    }
  }

  async #create(name: InterfaceName): Promise<void> {
    if (this.engine === 'kernel') {
      await this.runner.run('ip', ['link', 'add', 'dev', name, 'type', 'wireguard']);
      return;
    }
    await socketFree(name);
    // Returns when the device and its socket are there. It removes a socket that a dead one left behind.
    await this.runner.run('wireguard-go', [name]);
  }
}

/**
 * wireguard-go binds its port when the interface comes up, and tells nobody but its log when it cannot: so it is tried
 * before. Rejects with `port-in-use`.
 */
async function requireFreePort(port: Port): Promise<void> {
  for (const [type, address] of [['udp4', '0.0.0.0'] as const, ['udp6', '::'] as const]) {
    const socket = createSocket({ type, ipv6Only: type === 'udp6' });
    try {
      socket.bind({ port, address, exclusive: true });
      await once(socket, 'listening');
    } catch (cause) {
      // Without IPv6 there is nothing to bind there.
      if ((cause as NodeJS.ErrnoException).code !== 'EADDRINUSE') continue;
      throw new VpndError('port-in-use', `UDP port ${port} is in use by another program`, { cause });
    } finally {
      socket.close();
    }
  }
}

const foreign = (name: string): VpndError =>
  new VpndError(
    'dataplane',
    `interface ${name} exists and is not vpnd's: choose another name (--interface), or remove it (ip link del ${name})`,
    { details: { device: name } },
  );

/** What `ip -batch` has to do to a link. Addresses come before those that go, so that one of each is always there. */
export function linkLines(unit: DeviceUnit, alias: string, link: LinkState | undefined): readonly string[] {
  const lines: string[] = [];
  const settings: string[] = [];
  if (link?.alias !== alias) settings.push('alias', alias);
  if (link?.mtu !== unit.mtu) settings.push('mtu', String(unit.mtu));
  if (link?.up !== true) settings.push('up');
  if (settings.length > 0) lines.push(`link set dev ${unit.name} ${settings.join(' ')}`);
  const present = new Set(link?.addresses);
  for (const address of unit.addresses) {
    // Nobody else can have the address, and duplicate detection would keep it from being used for a second.
    if (!present.has(address))
      lines.push(`addr replace ${address} dev ${unit.name}${address.includes(':') ? ' nodad' : ''}`);
  }
  for (const address of present) {
    if (!unit.addresses.includes(address)) lines.push(`addr del ${address} dev ${unit.name}`);
  }
  return lines;
}

interface LinkJson {
  readonly ifname: string;
  readonly ifalias?: string;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly linkinfo?: { readonly info_kind?: string };
  readonly addr_info?: readonly {
    readonly family: string;
    readonly local: string;
    readonly prefixlen: number;
    readonly scope: string;
  }[];
}

export function parseLinks(json: string): LinkState[] {
  return parseList<LinkJson>(json)
    .filter((link) => typeof link.ifname === 'string')
    .map((link) => {
      const kind = link.linkinfo?.info_kind;
      return {
        name: link.ifname as InterfaceName,
        alias: link.ifalias,
        engine: kind === 'wireguard' ? 'kernel' : kind === 'tun' ? 'userspace' : 'other',
        mtu: link.mtu,
        up: link.flags.includes('UP'),
        addresses: (link.addr_info ?? []).flatMap(({ family, local, prefixlen, scope }) => {
          // The kernel gives interfaces link-local addresses of its own accord.
          if (family === 'inet6' && scope === 'link') return [];
          const parsed = parseCidr(`${local}/${prefixlen}`);
          return parsed.ok ? [parsed.value] : [];
        }),
      };
    });
}
