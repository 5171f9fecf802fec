import { Role } from '../../src/gen/vpnd/v1/types_pb.js';
import {
  createLab,
  type Home,
  type Host,
  type Lab,
  type LabOptions,
  type NatKind,
  type WebServer,
} from '../lab/index.js';
import { OverlayNode } from './node.js';

/** A supernode on a public host of its own. */
export interface SupernodeSpec {
  readonly name: string;
  readonly region: string;
  readonly args?: readonly string[];
}

/** An exit or a client behind a router of its own. */
export interface PeerSpec {
  readonly name: string;
  readonly region: string;
  /** `port-preserving` when left out. */
  readonly nat?: NatKind;
  readonly ipv6?: boolean;
  /** Behind the router of this peer instead, named before. */
  readonly with?: string;
  /** For exits: a UDP port that its router forwards and the exit says it has. */
  readonly forwardedPort?: number;
  readonly args?: readonly string[];
}

export interface FleetOptions {
  readonly lab?: LabOptions;
  readonly dataplane?: 'auto' | 'kernel' | 'userspace';
  readonly supernodes: readonly SupernodeSpec[];
  readonly exits: readonly PeerSpec[];
  readonly clients: readonly PeerSpec[];
  /** More arguments for all of a role. */
  readonly exitArgs?: readonly string[];
  readonly clientArgs?: readonly string[];
  readonly supernodeArgs?: readonly string[];
  readonly tell?: (step: string) => void;
}

const TOKEN_ROLE = { supernode: Role.SUPERNODE, exit: Role.EXIT, client: Role.CLIENT } as const;
const TOKEN_TTL_MS = 86_400_000n;

interface Placed {
  readonly node: OverlayNode;
  readonly home: Home | undefined;
  readonly region: string;
}

const BASE = '198.51.100.5';
const WEB = { ipv4: '198.51.100.80', ipv6: '2001:db8::80' };
const FIRST_SUPERNODE = 31;
const FIRST_HOME = 100;
/** Daemons that start at the same time: two cores start no more of them faster. */
const AT_ONCE = 4;

/** An overlay of any size in a lab, as processes of the real binary. `Overlay` is the small one that most tests need. */
export class Fleet {
  readonly #placed = new Map<string, Placed>();
  #homes = 0;

  private constructor(
    readonly lab: Lab,
    readonly base: OverlayNode,
    readonly web: WebServer,
    private readonly options: FleetOptions,
  ) {}

  /** Build it, start every daemon and join it with a token of its own. */
  static async start(options: FleetOptions): Promise<Fleet> {
    const fleet = await Fleet.build(options);
    try {
      await fleet.startAll();
      return fleet;
    } catch (cause) {
      await fleet.close();
      throw cause;
    }
  }

  /** Hosts and homes; no daemon runs yet. */
  static async build(options: FleetOptions): Promise<Fleet> {
    const lab = await createLab(options.lab);
    try {
      const [baseHost, web] = await Promise.all([lab.publicHost('base', { ipv4: BASE }), lab.webServer('web', WEB)]);
      const args = ['--listen', '0.0.0.0:7400', '--advertise', `${BASE}:7400`];
      const fleet = new Fleet(lab, new OverlayNode('base', baseHost, 'base', args), web, options);
      for (const spec of options.supernodes) await fleet.#placeSupernode(spec);
      for (const spec of options.exits) await fleet.#placePeer('exit', spec);
      for (const spec of options.clients) await fleet.#placePeer('client', spec);
      return fleet;
    } catch (cause) {
      await lab.close();
      throw cause;
    }
  }

  async startAll(): Promise<void> {
    await this.base.start();
    for (const role of ['supernode', 'exit', 'client'] as const) {
      const waiting = this.#of(role);
      const start = async () => {
        for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await this.join(next.node.name);
      };
      await Promise.all(Array.from({ length: AT_ONCE }, start));
      this.options.tell?.(`${this.#of(role).length} of role ${role} joined`);
    }
  }

  /** Start a daemon for the first time, with a token. */
  async join(name: string): Promise<void> {
    const { node, region } = this.#find(name);
    const role = node.role;
    if (role === 'base') throw new Error('base joins nobody');
    // As `vpnd token create` asks for it, without a program for each.
    const made = await this.base.api.createToken({ role: TOKEN_ROLE[role], region, uses: 1, ttlMs: TOKEN_TTL_MS });
    await node.start({ token: made.token });
  }

  get supernodes(): readonly OverlayNode[] {
    return this.#of('supernode').map(({ node }) => node);
  }

  get exits(): readonly OverlayNode[] {
    return this.#of('exit').map(({ node }) => node);
  }

  get clients(): readonly OverlayNode[] {
    return this.#of('client').map(({ node }) => node);
  }

  get nodes(): readonly OverlayNode[] {
    return [this.base, ...[...this.#placed.values()].map(({ node }) => node)];
  }

  node(name: string): OverlayNode {
    return this.#find(name).node;
  }

  /** The home network of an exit or a client. */
  home(name: string): Home {
    const { home } = this.#find(name);
    if (home === undefined) throw new Error(`${name} is not at home anywhere`);
    return home;
  }

  /** An empty home besides those of the peers, for machines that move. */
  newHome(name: string, nat: NatKind = 'port-preserving'): Promise<Home> {
    return this.#home(name, { nat });
  }

  /** Names given here by the ids that the nodes have. Every daemon must run. */
  async names(): Promise<ReadonlyMap<string, string>> {
    const named = await Promise.all(
      [...this.#placed].map(async ([name, { node }]) => [(await node.api.status()).peerId, name] as const),
    );
    return new Map(named);
  }

  /** The address that the web server sees a machine's request come from; throws with what went wrong. */
  async seenIp(client: Host, url = `${this.web.url}/`, seconds = 5): Promise<string> {
    const argv = ['curl', '-sS', '--max-time', String(seconds), url];
    const said = await client.exec(argv, { timeout: seconds * 1000 + 15_000 });
    return (JSON.parse(said) as { ip: string }).ip;
  }

  async close(): Promise<void> {
    await this.lab.close();
  }

  async #placeSupernode(spec: SupernodeSpec): Promise<void> {
    const number = FIRST_SUPERNODE + this.#placed.size;
    const ip = `198.51.100.${number}`;
    const host = await this.lab.publicHost(spec.name, { ipv4: ip, ipv6: `2001:db8::${number}` });
    const node = new OverlayNode(spec.name, host, 'supernode', [
      ...['--region', spec.region, '--listen', '0.0.0.0:443', '--advertise', `${ip}:443`, '--relay-ip', ip],
      ...['--dataplane', this.options.dataplane ?? 'auto', ...(this.options.supernodeArgs ?? []), ...(spec.args ?? [])],
    ]);
    this.#placed.set(spec.name, { node, home: undefined, region: spec.region });
  }

  async #placePeer(role: 'exit' | 'client', spec: PeerSpec): Promise<void> {
    const home = spec.with === undefined ? await this.#home(`${spec.name}h`, spec) : this.home(spec.with);
    const host = await home.host(spec.name);
    const { forwardedPort: port } = spec;
    if (port !== undefined) await home.forward('udp', port, host);
    const all = role === 'exit' ? this.options.exitArgs : this.options.clientArgs;
    const node = new OverlayNode(spec.name, host, role, [
      ...['--dataplane', this.options.dataplane ?? 'auto', ...(all ?? []), ...(spec.args ?? [])],
      ...(port === undefined ? [] : ['--public-endpoint', `${home.publicIpv4}:${port}`]),
    ]);
    this.#placed.set(spec.name, { node, home, region: spec.region });
  }

  #home(name: string, spec: { readonly nat?: NatKind; readonly ipv6?: boolean }): Promise<Home> {
    const number = FIRST_HOME + this.#homes++;
    return this.lab.home(name, {
      nat: spec.nat ?? 'port-preserving',
      publicIpv4: `198.51.100.${number}`,
      lan: `192.168.${number}.0/24`,
      ...(spec.ipv6 ? { ipv6: `2001:db8:${number}::/64` } : {}),
    });
  }

  #of(role: OverlayNode['role']): Placed[] {
    return [...this.#placed.values()].filter(({ node }) => node.role === role);
  }

  #find(name: string): Placed {
    const placed = name === 'base' ? { node: this.base, home: undefined, region: '' } : this.#placed.get(name);
    if (placed === undefined) throw new Error(`nobody is called ${name}`);
    return placed;
  }
}
