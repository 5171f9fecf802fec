import type { Host } from './host.js';
import { type NatKind, type PortForward, renderRouter } from './nat.js';

export interface HomeOptions {
  readonly nat: NatKind;
  /** The address the internet sees: of the home's router, or of the carrier's with `carrier-grade`. */
  readonly publicIpv4: string;
  /** A /24; 192.168.1.0/24 when left out. The router is .1, hosts get .2, .3, … */
  readonly lan?: string;
  /** A /64 routed to the home, such as 2001:db8:1::/64; without it the home has no IPv6. */
  readonly ipv6?: string;
}

/** What a home needs of the lab around it. */
export interface HomeSite {
  addHost(name: string, options: { ipv4?: string; ipv6?: string; forwards?: boolean }): Promise<Host>;
  /** Plug `host`'s eth0 into the internet and give it these addresses, "address/length". */
  plug(host: Host, addresses: readonly string[]): Promise<void>;
  readonly internet: Host;
  readonly gateway: { readonly ipv4: string; readonly ipv6: string };
}

const OUTSIDE = 'eth0';
const INSIDE = 'lan0';
const CARRIER_SIDE = { carrier: '100.64.0.1', customer: '100.64.0.2' };
const CARRIER_LINK = { carrier: 'fe80::1', customer: 'fe80::2' };

/** A router, perhaps a carrier's router before it, and the hosts behind. */
export class Home {
  readonly router: Host;
  /** Only with `carrier-grade`. */
  readonly carrier: Host | undefined;
  readonly nat: NatKind;
  readonly #site: HomeSite;
  readonly #name: string;
  readonly #prefix: { readonly ipv4: string; readonly ipv6: string | undefined };
  #publicIpv4: string;
  #forwards: readonly PortForward[] = [];
  #hosts = 0;
  #rebinds = 0;

  private constructor(site: HomeSite, name: string, options: HomeOptions, router: Host, carrier: Host | undefined) {
    this.#site = site;
    this.#name = name;
    this.#prefix = prefixOf(options);
    this.#publicIpv4 = options.publicIpv4;
    this.nat = options.nat;
    this.router = router;
    this.carrier = carrier;
  }

  /** For the lab itself. */
  static async create(site: HomeSite, name: string, options: HomeOptions): Promise<Home> {
    const prefix = prefixOf(options);
    const outer = { ipv4: options.publicIpv4, ...(prefix.ipv6 ? { ipv6: uplinkIpv6(options.publicIpv4) } : {}) };
    const behindCarrier = options.nat === 'carrier-grade';
    const [router, carrier] = await Promise.all([
      site.addHost(`${name}-router`, { ...(behindCarrier ? { ipv4: CARRIER_SIDE.customer } : outer), forwards: true }),
      behindCarrier ? site.addHost(`${name}-carrier`, { ...outer, forwards: true }) : undefined,
    ]);
    const home = new Home(site, name, options, router, carrier);
    await router.ip(
      `link add ${INSIDE} type bridge mcast_snooping 0`,
      `addr add ${prefix.ipv4}1/24 dev ${INSIDE}`,
      ...(prefix.ipv6 ? [`addr add ${prefix.ipv6}1/64 dev ${INSIDE} nodad`] : []),
      `link set ${INSIDE} up`,
    );
    await site.plug(carrier ?? router, [`${outer.ipv4}/24`, ...('ipv6' in outer ? [`${outer.ipv6}/64`] : [])]);
    if (carrier) await connectCarrier(carrier, router, options.ipv6);
    if (options.ipv6) await site.internet.ip(`route add ${options.ipv6} via ${uplinkIpv6(options.publicIpv4)}`);
    if (options.nat === 'none') await site.internet.ip(`route add ${prefix.ipv4}0/24 via ${options.publicIpv4}`);
    await home.#applyRules();
    return home;
  }

  /** The address that the internet sees this home under. */
  get publicIpv4(): string {
    return this.#publicIpv4;
  }

  /** A new machine in this home; addresses count up from .2 (and ::2). */
  async host(name: string): Promise<Host> {
    const host = await this.#site.addHost(name, this.#addresses(this.#hosts + 1));
    await this.connect(host);
    return host;
  }

  /**
   * Give a machine a network card in this home, with the next free addresses and default routes by it. With a metric, a
   * lower one is preferred; without, it takes the default route over.
   */
  async connect(host: Host, options: { readonly device?: string; readonly metric?: number } = {}): Promise<void> {
    const { device = OUTSIDE, metric } = options;
    const number = ++this.#hosts;
    const { ipv4, ipv6 } = this.#addresses(number);
    const port = `h${number + 1}`;
    await this.router.ip(
      `link add ${port} type veth peer name ${device} netns ${host.namespace}`,
      `link set ${port} master ${INSIDE} up`,
    );
    host.cabled(device, { at: this.router, bridge: INSIDE, port }, { ipv4, ...(ipv6 ? { ipv6 } : {}) });
    const last = metric === undefined ? '' : ` metric ${metric}`;
    await host.ip(
      `addr add ${ipv4}/24 dev ${device}`,
      ...(ipv6 ? [`addr add ${ipv6}/64 dev ${device} nodad`] : []),
      `link set ${device} up`,
      `route replace default via ${this.#prefix.ipv4}1 dev ${device}${last}`,
      ...(ipv6 ? [`route replace ::/0 via ${this.#prefix.ipv6}1 dev ${device}${last}`] : []),
    );
  }

  /** A machine is carried over from another home: another router, other addresses, another public address. */
  async adopt(host: Host): Promise<void> {
    await host.removeCard(OUTSIDE);
    await this.connect(host);
  }

  /** The way out ends at these addresses: nothing else of the internet is reached from here. Undone by `openUplink`. */
  async cutUplink(except: readonly string[]): Promise<void> {
    const allowed = except.length === 0 ? '' : `ip daddr != { ${except.join(', ')} } `;
    await this.router.nft(
      `table inet uplink\ndelete table inet uplink\ntable inet uplink {
        chain forward {
          type filter hook forward priority filter - 1; policy accept;
          iifname "${INSIDE}" meta nfproto ipv4 ${allowed}drop
          iifname "${INSIDE}" meta nfproto ipv6 drop
        }
      }\n`,
    );
  }

  async openUplink(): Promise<void> {
    await this.router.nft('table inet uplink\ndelete table inet uplink\n');
  }

  /** From now on no UDP passes, in either direction, but to port 53. Undone by `allowUdp`. */
  async blockUdp(): Promise<void> {
    await this.router.nft(
      `table inet noudp\ndelete table inet noudp\ntable inet noudp {
        chain forward {
          type filter hook forward priority filter - 1; policy accept;
          iifname "${INSIDE}" udp dport != 53 drop
          oifname "${INSIDE}" udp sport != 53 drop
        }
      }\n`,
    );
  }

  async allowUdp(): Promise<void> {
    await this.router.nft('table inet noudp\ndelete table inet noudp\n');
  }

  /** Let strangers reach a host of this home on a port of the public address (IPv4). */
  async forward(protocol: 'udp' | 'tcp', port: number, to: Host, toPort = port): Promise<void> {
    if (this.carrier) throw new Error(`home ${this.#name}: nobody forwards ports through a carrier's NAT`);
    if (to.ipv4 === undefined) throw new Error(`host ${to.name} has no IPv4 address`);
    this.#forwards = [...this.#forwards, { protocol, port, to: to.ipv4, toPort }];
    await this.#applyRules();
  }

  /** NAT rebinding: the outermost NAT forgets its mappings, and makes the next ones from other ports. */
  async rebind(): Promise<void> {
    this.#rebinds++;
    await this.#applyRules();
    await (this.carrier ?? this.router).conntrackFlush();
  }

  /** The provider gives the home another public address: what was mapped is gone. */
  async changeAddress(ipv4: string): Promise<void> {
    const edge = this.carrier ?? this.router;
    await edge.ip(
      `addr del ${this.#publicIpv4}/24 dev ${OUTSIDE}`,
      `addr add ${ipv4}/24 dev ${OUTSIDE}`,
      `route replace default via ${this.#site.gateway.ipv4}`,
    );
    if (this.nat === 'none') await this.#site.internet.ip(`route replace ${this.#prefix.ipv4}0/24 via ${ipv4}`);
    this.#publicIpv4 = ipv4;
    await edge.conntrackFlush();
  }

  /** Of the n-th machine: the router is number one. */
  #addresses(n: number): { readonly ipv4: string; readonly ipv6?: string } {
    const { ipv4, ipv6 } = this.#prefix;
    return { ipv4: `${ipv4}${n + 1}`, ...(ipv6 ? { ipv6: `${ipv6}${(n + 1).toString(16)}` } : {}) };
  }

  async #applyRules(): Promise<void> {
    // Each rebinding takes another thousand ports, and comes around after twenty.
    const first = 20_000 + 1000 * (this.#rebinds % 20);
    const ports = this.#rebinds === 0 ? {} : { ports: [first, first + 999] as const };
    const rules = { outside: OUTSIDE, inside: INSIDE };
    if (this.carrier) {
      await this.carrier.nft(renderRouter({ ...rules, ...ports, nat: 'random', forwards: [] }));
      await this.router.nft(renderRouter({ ...rules, nat: 'port-preserving', forwards: [] }));
    } else {
      const nat = this.nat === 'carrier-grade' ? 'random' : this.nat;
      await this.router.nft(renderRouter({ ...rules, ...ports, nat, forwards: this.#forwards }));
    }
  }
}

/** Customers reach the carrier over shared address space (RFC 6598) and link-local IPv6. */
async function connectCarrier(carrier: Host, router: Host, ipv6Prefix: string | undefined): Promise<void> {
  await carrier.ip(
    `link add ${INSIDE} type veth peer name ${OUTSIDE} netns ${router.namespace}`,
    `addr add ${CARRIER_SIDE.carrier}/10 dev ${INSIDE}`,
    `addr add ${CARRIER_LINK.carrier}/64 dev ${INSIDE} nodad`,
    `link set ${INSIDE} up`,
  );
  await router.ip(
    `addr add ${CARRIER_SIDE.customer}/10 dev ${OUTSIDE}`,
    `addr add ${CARRIER_LINK.customer}/64 dev ${OUTSIDE} nodad`,
    `link set ${OUTSIDE} up`,
    `route add default via ${CARRIER_SIDE.carrier}`,
    `route add ::/0 via ${CARRIER_LINK.carrier} dev ${OUTSIDE}`,
  );
  if (ipv6Prefix) await carrier.ip(`route add ${ipv6Prefix} via ${CARRIER_LINK.customer} dev ${INSIDE}`);
}

/** The uplink's IPv6 address repeats the last number of its IPv4 address: 198.51.100.20 is 2001:db8::20. */
function uplinkIpv6(ipv4: string): string {
  return `2001:db8::${ipv4.split('.')[3]}`;
}

function prefixOf({ lan = '192.168.1.0/24', ipv6 }: HomeOptions): { ipv4: string; ipv6: string | undefined } {
  const inner = /^(\d+\.\d+\.\d+\.)0\/24$/.exec(lan)?.[1];
  if (inner === undefined) throw new Error(`lan must be an IPv4 /24, not ${lan}`);
  if (ipv6 === undefined) return { ipv4: inner, ipv6: undefined };
  const outer = /^([0-9a-f:]+::)\/64$/.exec(ipv6)?.[1];
  if (outer === undefined) throw new Error(`ipv6 must be a /64 ending in "::", not ${ipv6}`);
  return { ipv4: inner, ipv6: outer };
}
