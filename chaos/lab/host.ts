import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Capture } from './capture.js';
import {
  childEnvironment,
  execProcess,
  type RunOptions,
  type RunResult,
  runProcess,
  Spawned,
  type SpawnOptions,
} from './processes.js';
import { processesIn } from './residue.js';

const NOTICE_EVERY_MS = 20;
const NOTICE_LOOKS = 150;
/** Waits until a host's own kernel takes an interface for up; the flags behind its state name LOWER_UP sooner. */
async function noticed(host: { exec(argv: readonly string[]): Promise<string> }, device: string): Promise<void> {
  for (let looks = 0; looks < NOTICE_LOOKS; looks++) {
    const [, state] = (await host.exec(['ip', '-br', 'link', 'show', 'dev', device])).trim().split(/\s+/);
    if (state === 'UP') return;
    await pause(NOTICE_EVERY_MS);
  }
}

/**
 * Becomes the process that keeps a host's mount namespace open, until its standard input ends with the lab's owner.
 * Userspace WireGuard devices are found through sockets in the file system, so every host has its own
 * /var/run/wireguard; and its own /etc/resolv.conf, which may be rewritten in place but not replaced.
 */
const KEEPER = `
directory=$1; shift
mkdir -p /run/wireguard
mount --bind "$directory/wireguard" /run/wireguard
if [ -e /etc/resolv.conf ]; then mount --bind "$directory/resolv.conf" /etc/resolv.conf; fi
sysctl -qew "$@"
ip link set lo up
echo ready
exec cat
`;

/** Addresses are used as soon as they are set, routers speak only when asked, and no host of ours redirects another. */
const SETTINGS = [
  'net.ipv6.conf.all.accept_dad=0',
  'net.ipv6.conf.default.accept_dad=0',
  'net.ipv6.conf.default.accept_ra=0',
  'net.ipv6.conf.default.autoconf=0',
  'net.ipv4.conf.all.rp_filter=0',
  'net.ipv4.conf.default.rp_filter=2',
  'net.ipv4.conf.all.send_redirects=0',
  'net.ipv4.conf.default.send_redirects=0',
  'net.ipv4.conf.all.accept_redirects=0',
  'net.ipv4.conf.default.accept_redirects=0',
];

const FORWARDING = ['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1', 'net.ipv6.conf.default.forwarding=1'];

export interface HostAddresses {
  readonly ipv4?: string | undefined;
  readonly ipv6?: string | undefined;
}

/** The other end of a host's cable: a port of the bridge it is plugged into. */
export interface SwitchPort {
  readonly at: Host;
  readonly bridge: string;
  readonly port: string;
}

/** One machine of the lab: a network namespace with its own loopback, mounts and scratch directory. */
export class Host {
  readonly name: string;
  /** The network namespace's name, for `ip -n` and `ip netns exec`. */
  readonly namespace: string;
  /** Scratch directory of this host, removed with the lab. */
  readonly directory: string;
  readonly #keeper: ChildProcess;
  readonly #cables = new Map<string, SwitchPort>();
  #at: HostAddresses;
  readonly #spawned: Spawned[] = [];

  private constructor(name: string, namespace: string, directory: string, keeper: ChildProcess, at: HostAddresses) {
    this.name = name;
    this.namespace = namespace;
    this.directory = directory;
    this.#at = at;
    this.#keeper = keeper;
  }

  /** Where it can be reached; the home's own address for machines at home. */
  get ipv4(): string | undefined {
    return this.#at.ipv4;
  }

  get ipv6(): string | undefined {
    return this.#at.ipv6;
  }

  /** For the lab itself: a new namespace with loopback and nothing else. */
  static async create(
    name: string,
    place: { readonly namespace: string; readonly directory: string },
    options: HostAddresses & { readonly forwards?: boolean },
  ): Promise<Host> {
    const { namespace, directory } = place;
    mkdirSync(join(directory, 'wireguard'), { recursive: true });
    writeFileSync(join(directory, 'resolv.conf'), '');
    await execProcess(['ip', 'netns', 'add', namespace]);
    const settings = options.forwards ? [...SETTINGS, ...FORWARDING] : SETTINGS;
    const keeper = spawn(
      'ip',
      ['netns', 'exec', namespace, '/bin/sh', '-ec', KEEPER, 'keeper', directory, ...settings],
      {
        env: childEnvironment(),
        stdio: ['pipe', 'pipe', 'pipe'],
      },
    );
    await ready(keeper, name);
    return new Host(name, namespace, directory, keeper, options);
  }

  /** Run a program on this host to its end. */
  run(argv: readonly string[], options?: RunOptions): Promise<RunResult> {
    return runProcess(this.inside(argv), options);
  }

  /** Like `run`, but anything other than exit code 0 throws; answers with standard output. */
  exec(argv: readonly string[], options?: RunOptions): Promise<string> {
    return execProcess(this.inside(argv), options);
  }

  /** Start a program on this host and leave it running; it ends with the lab at the latest. */
  spawn(argv: readonly string[], options: SpawnOptions = {}): Spawned {
    const process = new Spawned(argv, this.inside(argv, options.cwd), options);
    this.#spawned.push(process);
    return process;
  }

  /** The argument vector that runs `argv` on this host, for those who start processes by other means. */
  inside(argv: readonly string[], cwd = process.cwd()): string[] {
    return ['nsenter', '--target', String(this.#keeper.pid), '--net', '--mount', `--wdns=${cwd}`, '--', ...argv];
  }

  /** A path as this host's processes see it, from outside: something may be mounted there. */
  path(inside: string): string {
    return `/proc/${this.#keeper.pid}/root${inside}`;
  }

  /** Apply lines of `ip` commands (without the word "ip") to this host, in one go. */
  async ip(...commands: readonly string[]): Promise<void> {
    await execProcess(['ip', '-n', this.namespace, '-batch', '-'], { stdin: `${commands.join('\n')}\n` });
  }

  /** Apply an nftables script as one transaction; answers with what nft printed. */
  nft(script: string): Promise<string> {
    return this.exec(['nft', '-f', '-'], { stdin: script });
  }

  /** Set kernel parameters of this host, as `name=value`. */
  async sysctl(...settings: readonly string[]): Promise<void> {
    await this.exec(['sysctl', '-qw', ...settings]);
  }

  /** For the lab and homes, which lay cables: where this one ends, and the addresses that the host has by it. */
  cabled(device: string, to: SwitchPort, addresses: HostAddresses): void {
    this.#cables.set(device, to);
    if (device === 'eth0') this.#at = addresses;
  }

  /** Pull the cable at the switch: the host sees no carrier, keeps its addresses and routes, and nothing is closed. */
  async unplug(device = 'eth0'): Promise<void> {
    const { at, port } = this.#cable(device);
    await at.ip(`link set ${port} down`);
  }

  /** Resolves when the host has noticed: Linux tells of a carrier up to a second later, and sends nothing before. */
  async replug(device = 'eth0'): Promise<void> {
    const { at, port } = this.#cable(device);
    await at.ip(`link set ${port} up`);
    await noticed(this, device);
    await noticed(at, port);
  }

  /** The cable stays, and nothing passes any more: no carrier is lost, nobody is told. */
  async silence(device = 'eth0'): Promise<void> {
    const { at, port } = this.#cable(device);
    await at.ip(`link set ${port} nomaster`);
  }

  async unsilence(device = 'eth0'): Promise<void> {
    const { at, port, bridge } = this.#cable(device);
    await at.ip(`link set ${port} master ${bridge}`);
  }

  /** Take a network card out, with its cable; addresses and routes over it are gone. */
  async removeCard(device: string): Promise<void> {
    await this.ip(`link del ${device}`);
    this.#cables.delete(device);
  }

  #cable(device: string): SwitchPort {
    const cable = this.#cables.get(device);
    if (cable === undefined) throw new Error(`host ${this.name} has no cable at ${device}`);
    return cable;
  }

  linkDown(device = 'eth0'): Promise<void> {
    return this.ip(`link set ${device} down`);
  }

  /** A link that was down comes back without the routes over it: say them again where they matter. */
  linkUp(device = 'eth0'): Promise<void> {
    return this.ip(`link set ${device} up`);
  }

  /** How many connections this host's kernel tracks; `filter` as for `conntrack -L`, such as ['-p', 'udp']. */
  async conntrackCount(filter: readonly string[] = []): Promise<number> {
    const listed = await this.exec(['conntrack', '-L', ...filter]);
    return listed.split('\n').filter((line) => line.trim() !== '').length;
  }

  /** Forget tracked connections: all, or one protocol's. */
  async conntrackFlush(protocol?: 'udp' | 'tcp'): Promise<void> {
    if (protocol === undefined) await this.exec(['conntrack', '-F']);
    // Exit code 1 means that there was none to delete.
    else await this.run(['conntrack', '-D', '-p', protocol]);
  }

  /** Record packets on an interface of this host (`any` for all); resolves when recording has begun. */
  capture(device: string, filter = ''): Promise<Capture> {
    return Capture.start(this, device, filter);
  }

  /**
   * Delay what leaves by `device` by this many milliseconds, and lose some of it; 0 ends it. Throws where the kernel has
   * no netem: Debian's has, so such a test belongs under `make kernel`.
   */
  async delay(milliseconds: number, device = 'eth0', lossPercent = 0): Promise<void> {
    if (milliseconds === 0) {
      await this.run(['tc', 'qdisc', 'del', 'dev', device, 'root']);
      return;
    }
    const line = ['delay', `${milliseconds}ms`, ...(lossPercent === 0 ? [] : ['loss', `${lossPercent}%`])];
    const set = await this.run(['tc', 'qdisc', 'replace', 'dev', device, 'root', 'netem', ...line]);
    if (set.code !== 0) {
      throw new Error(`cannot delay packets: ${set.stderr.trim()} (a kernel without netem? see \`make kernel\`)`);
    }
  }

  /** Ids of all processes on this host, except the one that keeps it. */
  pids(): number[] {
    return processesIn([this.namespace]).filter((pid) => pid !== this.#keeper.pid);
  }

  /** Of processes started by `spawn`: resolves when all have ended. */
  async ended(): Promise<void> {
    await Promise.all(this.#spawned.map((process) => process.exited));
  }
}

async function ready(keeper: ChildProcess, name: string): Promise<void> {
  let complaint = '';
  keeper.stderr?.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  const answer = await Promise.race([
    keeper.stdout ? once(keeper.stdout, 'data').then(() => 'ready' as const) : 'broken',
    once(keeper, 'close').then(() => 'ended' as const),
  ]);
  if (answer !== 'ready') throw new Error(`host ${name} could not be set up: ${complaint.trim() || answer}`);
  // The keeper runs as long as the lab, but must not keep its owner's event loop alive.
  keeper.unref();
  for (const pipe of [keeper.stdin, keeper.stdout, keeper.stderr]) (pipe as { unref?: () => void } | null)?.unref?.();
}
