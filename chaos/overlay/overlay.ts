import { createLab, type Home, type Lab, type LabOptions, type NatKind, type WebServer } from '../lab/index.js';
import { OverlayNode } from './node.js';

export interface OverlayOptions {
  readonly lab?: LabOptions;
  readonly exitNat?: NatKind;
  readonly clientNat?: NatKind;
  /** Give the exit's home IPv6. */
  readonly exitIpv6?: boolean;
  readonly clientIpv6?: boolean;
  readonly dataplane?: 'auto' | 'kernel' | 'userspace';
  readonly exitArgs?: readonly string[];
  readonly clientArgs?: readonly string[];
  readonly supernodeArgs?: readonly string[];
  /** Both supernodes serve one region and the exit is under the client's: a single relay. */
  readonly oneSupernode?: boolean;
  /** What happens, for those who watch. */
  readonly tell?: (step: string) => void;
}

/** Where everything stands. Documentation ranges (RFC 5737, RFC 3849) play the internet. */
export const ADDRESSES = {
  base: '198.51.100.5',
  a: '198.51.100.1',
  b: '198.51.100.2',
  exitHome: '198.51.100.10',
  clientHome: '198.51.100.20',
  web: '198.51.100.80',
  webIpv6: '2001:db8::80',
} as const;

/**
 * The whole overlay in a lab, as separate processes of the real binary:
 *
 *   client - home router - supernode A (eu) - supernode B (us) - home router - exit - web
 */
export class Overlay {
  private constructor(
    readonly lab: Lab,
    readonly base: OverlayNode,
    readonly a: OverlayNode,
    /** The same as `a` in a lab with one supernode. */
    readonly b: OverlayNode,
    readonly exit: OverlayNode,
    readonly client: OverlayNode,
    readonly exitHome: Home,
    readonly clientHome: Home,
    readonly web: WebServer,
  ) {}

  get nodes(): readonly OverlayNode[] {
    return [...new Set([this.base, this.a, this.b, this.exit, this.client])];
  }

  /** Hosts, homes and the web server; no daemon runs yet. */
  static async build(options: OverlayOptions = {}): Promise<Overlay> {
    const lab = await createLab(options.lab);
    try {
      const engine = options.dataplane ?? 'auto';
      const [baseHost, aHost, bHost, exitHome, clientHome, web] = await Promise.all([
        lab.publicHost('base', { ipv4: ADDRESSES.base }),
        lab.publicHost('sna', { ipv4: ADDRESSES.a, ipv6: '2001:db8::1' }),
        options.oneSupernode ? undefined : lab.publicHost('snb', { ipv4: ADDRESSES.b, ipv6: '2001:db8::2' }),
        lab.home('homex', {
          nat: options.exitNat ?? 'port-preserving',
          publicIpv4: ADDRESSES.exitHome,
          lan: '192.168.1.0/24',
          ...(options.exitIpv6 ? { ipv6: '2001:db8:1::/64' } : {}),
        }),
        lab.home('homec', {
          nat: options.clientNat ?? 'port-preserving',
          publicIpv4: ADDRESSES.clientHome,
          lan: '192.168.2.0/24',
          ...(options.clientIpv6 ? { ipv6: '2001:db8:2::/64' } : {}),
        }),
        lab.webServer('web', { ipv4: ADDRESSES.web, ipv6: ADDRESSES.webIpv6 }),
      ]);
      const [exitHost, clientHost] = await Promise.all([exitHome.host('exit'), clientHome.host('client')]);
      const supernode = (name: string, host: typeof aHost, region: string, ip: string) =>
        new OverlayNode(name, host, 'supernode', [
          ...['--region', region, '--listen', '0.0.0.0:443', '--advertise', `${ip}:443`, '--relay-ip', ip],
          ...['--dataplane', engine, ...(options.supernodeArgs ?? [])],
        ]);
      const a = supernode('supernode A', aHost, 'eu', ADDRESSES.a);
      return new Overlay(
        lab,
        new OverlayNode('base', baseHost, 'base', [
          '--listen',
          '0.0.0.0:7400',
          '--advertise',
          `${ADDRESSES.base}:7400`,
        ]),
        a,
        bHost === undefined ? a : supernode('supernode B', bHost, 'us', ADDRESSES.b),
        new OverlayNode('exit', exitHost, 'exit', ['--dataplane', engine, ...(options.exitArgs ?? [])]),
        new OverlayNode('client', clientHost, 'client', ['--dataplane', engine, ...(options.clientArgs ?? [])]),
        exitHome,
        clientHome,
        web,
      );
    } catch (cause) {
      await lab.close();
      throw cause;
    }
  }

  /** Build, start every daemon and join it with a token of its own. */
  static async start(options: OverlayOptions = {}): Promise<Overlay> {
    const overlay = await Overlay.build(options);
    try {
      await overlay.startAll(options.tell);
      return overlay;
    } catch (cause) {
      await overlay.close();
      throw cause;
    }
  }

  async startAll(tell: (step: string) => void = () => {}): Promise<void> {
    await this.base.start();
    tell('base is up: it holds the directory and signs memberships');
    const supernodes = [...new Set([this.a, this.b])];
    await Promise.all(
      supernodes.map(async (node) =>
        node.start({ token: await this.token('supernode', node === this.a ? 'eu' : 'us') }),
      ),
    );
    tell(`${supernodes.length === 1 ? 'a supernode' : 'two supernodes'} joined with a token and got certificates`);
    const exitRegion = this.b === this.a ? 'eu' : 'us';
    await Promise.all([
      this.token('exit', exitRegion).then((token) => this.exit.start({ token })),
      this.token('client', 'eu').then((token) => this.client.start({ token })),
    ]);
    tell('the exit and the client, each behind its home router, joined and hold one stream to a supernode');
  }

  /** A fresh join token for one use; with `egress`, for a supernode that may be an exit too. */
  async token(role: OverlayNode['role'], region: string, options: { egress?: boolean } = {}): Promise<string> {
    const wanted = ['--role', role, '--region', region, ...(options.egress ? ['--egress'] : [])];
    const made = await this.base.json<{ token: string }>('token', 'create', ...wanted);
    return made.token;
  }

  /** GET from the client's machine, by whatever way its routes say. */
  async fetch(url: string, seconds = 5): Promise<{ readonly ok: boolean; readonly body: string }> {
    const got = await this.client.host.run(['curl', '-sS', '--max-time', String(seconds), url], {
      timeout: seconds * 1000 + 5000,
    });
    return { ok: got.code === 0, body: got.code === 0 ? got.stdout : got.stderr };
  }

  /** The address that the web server saw a request of the client come from. */
  async seenIp(url = `${this.web.url}/`): Promise<string> {
    const { ok, body } = await this.fetch(url);
    if (!ok) throw new Error(`no page: ${body.trim()}`);
    return (JSON.parse(body) as { ip: string }).ip;
  }

  async close(): Promise<void> {
    await this.lab.close();
  }
}
