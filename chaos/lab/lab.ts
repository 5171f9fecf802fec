import { join } from 'node:path';
import { Home, type HomeOptions, type HomeSite } from './home.js';
import { Host } from './host.js';
import { recordLab, removeAbandonedLabs, removeLab } from './residue.js';
import { WebServer } from './web.js';

export interface LabOptions {
  /** Becomes part of the namespaces' names, for people who look at them. */
  readonly name?: string;
  /**
   * What SIGINT, SIGTERM and SIGHUP do: `end` (the default) removes the lab and lets the signal end the process;
   * `leave` is for programs that handle them on their own. The lab is removed at exit in either case.
   */
  readonly signals?: 'end' | 'leave';
}

export interface PublicHostOptions {
  /** In 198.51.100.0/24, and not .254, which is the internet's own router. */
  readonly ipv4: string;
  /** In 2001:db8::/64, and not ::fffe. */
  readonly ipv6?: string;
}

const GATEWAY = { ipv4: '198.51.100.254', ipv6: '2001:db8::fffe' };
const BRIDGE = 'br0';
const ENDING_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const running = new Set<Lab>();
let labsMade = 0;

/**
 * An empty internet to add hosts to. Removes first what killed owners left behind. Several labs, of this process or
 * others, live side by side. Needs root.
 */
export async function createLab(options: LabOptions = {}): Promise<Lab> {
  if (process.getuid?.() !== 0) throw new Error('the lab builds network namespaces and needs root');
  removeAbandonedLabs();
  const label = options.name === undefined ? '' : `-${options.name}`;
  const name = `vl${process.pid}x${++labsMade}${label}`;
  if (!/^[a-z0-9-]+$/.test(name)) throw new Error(`a lab's name is lower-case letters, digits and dashes: ${name}`);
  const directory = recordLab(name);
  watchForTheEnd();
  const lab = new Lab(name, directory, options.signals ?? 'end');
  running.add(lab);
  try {
    await lab.open();
  } catch (cause) {
    await lab.close();
    throw cause;
  }
  return lab;
}

/** Hosts made of network namespaces around a public network. Made by createLab. */
export class Lab {
  /** Prefix of the names of everything that belongs to it. */
  readonly name: string;
  /** Scratch directory, removed with the lab. */
  readonly directory: string;
  readonly signals: 'end' | 'leave';
  readonly #hosts: Host[] = [];
  #internet: Host | undefined;
  #ports = 0;

  constructor(name: string, directory: string, signals: 'end' | 'leave') {
    this.name = name;
    this.directory = directory;
    this.signals = signals;
  }

  /** The public network: a bridge (br0) that also routes between 198.51.100.0/24, 2001:db8::/64 and homes' prefixes. */
  get internet(): Host {
    if (!this.#internet) throw new Error('the lab is not open');
    return this.#internet;
  }

  get hosts(): readonly Host[] {
    return this.#hosts;
  }

  /** For createLab. */
  async open(): Promise<void> {
    this.#internet = await this.#addHost('internet', { ...GATEWAY, forwards: true });
    await this.#internet.ip(
      `link add ${BRIDGE} type bridge mcast_snooping 0`,
      `addr add ${GATEWAY.ipv4}/24 dev ${BRIDGE}`,
      `addr add ${GATEWAY.ipv6}/64 dev ${BRIDGE} nodad`,
      `link set ${BRIDGE} up`,
    );
  }

  /** A machine with public addresses, such as a supernode or a server; reachable by everybody. */
  async publicHost(name: string, options: PublicHostOptions): Promise<Host> {
    const host = await this.#addHost(name, options);
    await this.#plug(host, [`${options.ipv4}/24`, ...(options.ipv6 ? [`${options.ipv6}/64`] : [])]);
    return host;
  }

  /** A household behind a router of the given kind. */
  home(name: string, options: HomeOptions): Promise<Home> {
    const site: HomeSite = {
      internet: this.internet,
      gateway: GATEWAY,
      addHost: (hostName, hostOptions) => this.#addHost(hostName, hostOptions),
      plug: (host, addresses) => this.#plug(host, addresses),
    };
    return Home.create(site, name, options);
  }

  /** A public host with a web server on port 80 that tells clients who they are; see web-server.ts. */
  async webServer(name: string, options: PublicHostOptions): Promise<WebServer> {
    return WebServer.start(await this.publicHost(name, options));
  }

  /** End everything that runs in the lab, and remove it without a trace. May be called again. */
  async close(): Promise<void> {
    this.removeNow();
    await Promise.all(this.#hosts.map((host) => host.ended()));
  }

  /** The same for a process that is ending and cannot wait. */
  removeNow(): void {
    if (running.delete(this)) removeLab(this.name);
  }

  async #addHost(name: string, options: { ipv4?: string; ipv6?: string; forwards?: boolean }): Promise<Host> {
    if (!/^[a-z0-9-]{1,40}$/.test(name)) throw new Error(`bad host name: ${name}`);
    if (!running.has(this)) throw new Error(`lab ${this.name} is closed`);
    const place = { namespace: `${this.name}-${name}`, directory: join(this.directory, name) };
    const host = await Host.create(name, place, options);
    this.#hosts.push(host);
    return host;
  }

  async #plug(host: Host, addresses: readonly string[]): Promise<void> {
    const port = `p${++this.#ports}`;
    await this.internet.ip(
      `link add ${port} type veth peer name eth0 netns ${host.namespace}`,
      `link set ${port} master ${BRIDGE} up`,
    );
    host.cabled('eth0', { at: this.internet, bridge: BRIDGE, port }, { ipv4: host.ipv4, ipv6: host.ipv6 });
    const six = addresses.some((address) => address.includes(':'));
    await host.ip(
      ...addresses.map((address) => `addr add ${address} dev eth0${address.includes(':') ? ' nodad' : ''}`),
      'link set eth0 up',
      `route add default via ${GATEWAY.ipv4}`,
      ...(six ? [`route add ::/0 via ${GATEWAY.ipv6}`] : []),
    );
  }
}

let watching = false;

/** An uncaught exception ends in `exit` as well. SIGKILL is made good by the next lab, or `make clean`. */
function watchForTheEnd(): void {
  if (watching) return;
  watching = true;
  process.on('exit', removeAll);
  for (const signal of ENDING_SIGNALS) {
    const end = () => {
      if (running.size > 0 && [...running].every((lab) => lab.signals === 'leave')) return;
      removeAll();
      process.off(signal, end);
      process.kill(process.pid, signal);
    };
    process.on(signal, end);
  }
}

function removeAll(): void {
  for (const lab of [...running]) lab.removeNow();
}
