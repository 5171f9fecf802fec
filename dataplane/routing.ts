import { existsSync } from 'node:fs';
import { type Family, hostCidr, type IpAddress } from '../src/model/address.js';
import { VpndError } from '../src/model/errors.js';
import { parseIpJson } from './ip-json.js';
import type { Repairs } from './relay.js';
import {
  destinationFrom,
  PRIORITY,
  planRouting,
  type RouteLine,
  type Routing,
  type RoutingUnit,
  type RuleLine,
  renderRouting,
  routeKey,
  ruleAddition,
  ruleKey,
} from './routing-text.js';
import type { Runner } from './run.js';
import { settled } from './settled.js';

/** Rules and routes of one owner, with a believed copy so that a tunnel costs two calls and no listing. */
export class RoutingTable {
  #believed: Routing | undefined;
  readonly #families: readonly Family[];

  constructor(
    private readonly runner: Runner,
    private readonly protocol: number,
    private readonly isThere: (device: string) => boolean,
  ) {
    // A kernel started with ipv6.disable=1 has nothing to route there, and nothing that could leak.
    this.#families = existsSync('/proc/sys/net/ipv6') ? [4, 6] : [4];
  }

  /** Ask the kernel once, so that the first tunnel need not wait for it. */
  async prime(): Promise<void> {
    this.#believed = await this.#list();
  }

  /**
   * Add the exemptions that these units need and are not there yet, and touch nothing else. A device must not learn of an
   * endpoint before: its first packet there would go through whichever tunnel is active, and wireguard-go would stay
   * with the address it then heard an answer on, tunnel within tunnel.
   */
  async exempt(units: readonly RoutingUnit[]): Promise<void> {
    const wanted = renderRouting(units, this.#families, this.isThere);
    const add = async (present: Routing) => {
      const rules = [...wanted.rules].filter(
        ([key, rule]) => rule.priority === PRIORITY.exempt && !present.rules.has(key),
      );
      const lines = (family: Family) =>
        rules.flatMap(([, rule]) => (rule.family === family ? [ruleAddition(rule, this.protocol)] : []));
      this.#believed = undefined;
      await settled([runBatch(this.runner, lines(4)), runBatch(this.runner, lines(6), ['-6'])]);
      this.#believed = { ...present, rules: new Map([...present.rules, ...rules]) };
    };
    await this.#retried(this.#believed, add);
  }

  /**
   * Make rules and routes equal to these units. `first`: lines for the same `ip -batch`, before ours, which saves
   * a call where a tunnel comes up.
   */
  async apply(units: readonly RoutingUnit[], first: readonly string[] = []): Promise<void> {
    const wanted = renderRouting(units, this.#families, this.isThere);
    await this.#retried(this.#believed, (present) => this.#change(present, wanted, first));
  }

  /** By what is believed to be there, and where that is unknown or turns out to be wrong by what is. */
  async #retried(believed: Routing | undefined, change: (present: Routing) => Promise<void>): Promise<void> {
    if (believed !== undefined) {
      try {
        return await change(believed);
      } catch (thrown) {
        if (!(thrown instanceof VpndError) || thrown.code !== 'dataplane') throw thrown;
      }
    }
    await change(await this.#list());
  }

  /** The kernel took a device's routes away with it. */
  forgetDevice(device: string): void {
    if (this.#believed === undefined) return;
    const routes = [...this.#believed.routes].filter(([, route]) => route.device !== device);
    this.#believed = { ...this.#believed, routes: new Map(routes) };
  }

  async reconcile(units: readonly RoutingUnit[], repairs: Repairs): Promise<void> {
    const wanted = renderRouting(units, this.#families, this.isThere);
    const present = await this.#list();
    for (const [key, owner] of wanted.owners) {
      const rule = wanted.rules.has(key) && present.rules.has(key);
      const route = wanted.routes.get(key);
      const routed = route !== undefined && present.routes.get(key)?.device === route.device && present.routes.has(key);
      if (!rule && !routed) repairs.repaired.add(owner);
    }
    for (const key of [...present.rules.keys(), ...present.routes.keys()]) {
      if (!wanted.owners.has(key)) repairs.removed.push(key);
    }
    await this.#change(present, wanted);
  }

  /** Whether `main` leads to the internet; tunnels' own tables do not count. */
  async hasDefault(family: Family): Promise<boolean> {
    if (!this.#families.includes(family)) return false;
    const json = await this.runner.run('ip', [family === 4 ? '-4' : '-6', '-j', 'route', 'show', 'default']);
    return parseRoutes(json, family).some((route) => route.device !== undefined);
  }

  async inventory(): Promise<readonly string[]> {
    const { rules, routes } = await this.#list();
    return [
      ...rules.keys(),
      ...[...routes].map(
        ([key, route]) => `${key} ${route.device === undefined ? 'unreachable' : `dev ${route.device}`}`,
      ),
    ];
  }

  async #change(present: Routing, wanted: Routing, first: readonly string[] = []): Promise<void> {
    this.#believed = undefined;
    const { main, rules6 } = planRouting(present, wanted, this.protocol);
    const routes = runBatch(this.runner, [...first, ...main]);
    // Rules that are only added can be so beside the rest: until their table has its routes they change nothing.
    if (rules6.some((line) => !line.startsWith('rule add '))) await routes;
    const results = await Promise.allSettled([routes, runBatch(this.runner, rules6, ['-6'])]);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    this.#believed = wanted;
  }

  async #list(): Promise<Routing> {
    const rules = new Map<string, RuleLine>();
    const routes = new Map<string, RouteLine>();
    const lists = await Promise.all(
      this.#families.map(async (family) => {
        const option = family === 4 ? '-4' : '-6';
        const [ruleJson, routeJson] = await Promise.all([
          this.runner.run('ip', [option, '-j', 'rule', 'show']),
          this.runner.run('ip', [option, '-j', 'route', 'show', 'table', 'all', 'proto', String(this.protocol)]),
        ]);
        return [parseRules(ruleJson, family, this.protocol), parseRoutes(routeJson, family)] as const;
      }),
    );
    for (const [ruleList, routeList] of lists) {
      for (const rule of ruleList) rules.set(ruleKey(rule), rule);
      for (const route of routeList) routes.set(routeKey(route), route);
    }
    return { rules, routes, owners: new Map() };
  }
}

/** Several commands of `ip` in one process. */
export async function runBatch(
  runner: Runner,
  lines: readonly string[],
  options: readonly string[] = [],
): Promise<void> {
  if (lines.length === 0) return;
  await runner.run('ip', [...options, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}

interface RuleJson {
  readonly priority?: number;
  readonly src?: string;
  readonly srclen?: number;
  readonly dst?: string;
  readonly dstlen?: number;
  readonly fwmark?: string;
  readonly ipproto?: string;
  readonly sport?: number;
  readonly dport?: number;
  readonly action?: string;
  readonly table?: string;
  readonly suppress_prefixlen?: number;
  readonly protocol?: string;
}

/** Our rules among `ip -j rule show`, as texts like those we make. */
export function parseRules(json: string, family: Family, protocol: number): RuleLine[] {
  const out: RuleLine[] = [];
  for (const rule of parseList<RuleJson>(json)) {
    if (rule.protocol !== String(protocol)) continue;
    if (rule.priority === undefined) continue;
    const words: string[] = [];
    if (rule.dst !== undefined) words.push('to', withLength(rule.dst, rule.dstlen));
    if (rule.src !== undefined && rule.src !== 'all') words.push('from', withLength(rule.src, rule.srclen));
    if (rule.fwmark !== undefined) words.push('fwmark', rule.fwmark);
    if (rule.ipproto !== undefined) words.push('ipproto', rule.ipproto);
    if (rule.sport !== undefined) words.push('sport', String(rule.sport));
    if (rule.dport !== undefined) words.push('dport', String(rule.dport));
    if (rule.action === undefined) words.push('lookup', rule.table ?? 'main');
    else words.push(rule.action);
    if (rule.suppress_prefixlen !== undefined) words.push('suppress_prefixlength', String(rule.suppress_prefixlen));
    out.push({ family, priority: rule.priority, text: words.join(' ') });
  }
  return out;
}

interface RouteJson {
  readonly type?: string;
  readonly dst?: string;
  readonly dev?: string;
  readonly table?: string;
  readonly metric?: number;
}

export function parseRoutes(json: string, family: Family): RouteLine[] {
  return parseList<RouteJson>(json).map((route) => ({
    family,
    destination: destinationFrom(route.dst ?? 'default', family),
    table: route.table ?? 'main',
    metric: route.metric ?? 0,
    device: route.type === 'unreachable' ? undefined : route.dev,
  }));
}

/** What `ip -j` lists. Throws VpndError `dataplane` for anything that is not that. */
export const parseList = <T>(json: string): readonly T[] => parseIpJson(json) as readonly T[];

const withLength = (address: string, length: number | undefined): string =>
  length === undefined || `${address}/${length}` === hostCidr(address as IpAddress) ? address : `${address}/${length}`;
