import { networkInterfaces } from 'node:os';
import type { Clock } from '../src/core/ports/clock.js';
import { type IpAddress, type Port, parseIp } from '../src/model/address.js';
import { type RelayObservation, type RelayUnit, type UnitId, unitIdOf } from '../src/model/dataplane.js';
import { VpndError } from '../src/model/errors.js';
import { type Millis, seconds } from '../src/model/time.js';
import { parseIpJson } from './ip-json.js';
import { canonicalStructure, listElements, listStructure, type NftElements, runNft } from './nft.js';
import {
  elementText,
  isLearned,
  learnedEndpoint,
  PORT_AT,
  RELAY_SETS,
  type RelayElement,
  type RelayFamily,
  type RelaySet,
  relayElements,
  renderRelayChange,
  renderRelayTable,
} from './relay-text.js';
import type { Runner } from './run.js';

/** What a full comparison found, in the terms of the data plane's port. */
export interface Repairs {
  readonly repaired: Set<UnitId>;
  readonly removed: string[];
}

/** Tries of a transaction on elements, since packets change the learned maps between reading and writing. */
const TRIES = 3;
/** Longer than a tuple counts as known. */
const TUPLE_MEMORY = seconds(3);

/**
 * The relay table of one address family. Keeps a believed copy of the elements, so that a session costs one
 * transaction and no listing; a transaction that fails shows that the copy is wrong, and it is read again.
 *
 * A table whose last session has gone stays, empty, until the next full comparison: making one takes the kernel three
 * times as long as adding a session to it, and deleting one longer still.
 */
export class RelayTable {
  /** Undefined: not read yet, or known to be wrong. */
  #believed: Map<string, RelayElement> | 'absent' | undefined;
  #structure: string | undefined;

  constructor(
    private readonly runner: Runner,
    private readonly family: RelayFamily,
    private readonly name: string,
    private readonly clock: Pick<Clock, 'monotonic'>,
  ) {}

  /** Put these units and remove those of `ports`, in one transaction; all others stay. */
  async apply(put: readonly RelayUnit[], ports: readonly Port[]): Promise<void> {
    const elements = await this.#wanted(put);
    const touched = new Set([...ports, ...put.map((unit) => unit.port)]);
    await this.#transact((present) => {
      const rest = [...present].filter(([, element]) => !touched.has(element.port));
      return new Map([...rest, ...elements]);
    });
  }

  async #transact(decide: (present: ReadonlyMap<string, RelayElement>) => Map<string, RelayElement>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        const table = this.#believed === undefined ? await this.#list() : undefined;
        const wanted = decide(this.#elements());
        const suspicious = attempt > 1 && table !== undefined;
        if (suspicious && wanted.size === 0) await this.#drop();
        else if (suspicious && (await this.#damaged())) await this.#rebuild(wanted, table);
        else await this.#change(wanted, table);
        return;
      } catch (thrown) {
        this.#believed = undefined;
        if (attempt >= TRIES || !(thrown instanceof VpndError) || thrown.code !== 'dataplane') throw thrown;
      }
    }
  }

  /** Read everything and put right what differs, rules and chains included. */
  async reconcile(units: readonly RelayUnit[], repairs: Repairs): Promise<void> {
    const wanted = await this.#wanted(units);
    const leftEmpty = this.#believed !== 'absent' && this.#believed?.size === 0;
    const table = await this.#list();
    if (table === undefined && wanted.size === 0) return;
    const present = this.#elements();
    const ids = new Map(units.map((unit) => [unit.port, unitIdOf(unit)]));
    const strangers = new Set<Port>();
    for (const [key, element] of present) {
      const id = ids.get(element.port);
      if (id === undefined) strangers.add(element.port);
      else if (!same(element, wanted.get(key))) repairs.repaired.add(id);
    }
    for (const [key, element] of wanted) {
      const id = ids.get(element.port);
      if (id !== undefined && !same(element, present.get(key))) repairs.repaired.add(id);
    }
    for (const port of strangers) repairs.removed.push(`relay port ${port}`);
    if (table !== undefined && wanted.size > 0 && (await this.#damaged())) {
      for (const id of ids.values()) repairs.repaired.add(id);
      await this.#rebuild(wanted, table);
    } else if (table !== undefined && wanted.size === 0) {
      if (strangers.size === 0 && !leftEmpty) repairs.removed.push(`table ${this.family} ${this.name}`);
      return await this.#drop();
    }
    await this.#transact(() => wanted);
  }

  async observe(): Promise<readonly RelayObservation[]> {
    const table = await listElements(this.runner, this.family, this.name);
    const ips = table?.get('ep_ip');
    const ports = table?.get('ep_port');
    return [...(table?.get('local')?.keys() ?? [])].map((port) => ({
      port: Number(port) as Port,
      learned: learnedEndpoint(ips?.get(port), ports?.get(port)),
    }));
  }

  async inventory(): Promise<readonly string[]> {
    const table = await listElements(this.runner, this.family, this.name);
    const ports = table?.get('ours')?.size ?? 0;
    return ports === 0 ? [] : [`table ${this.family} ${this.name}: ${ports} relay ports`];
  }

  /** Fills `#believed` from the kernel. */
  async #list(): Promise<NftElements | undefined> {
    const table = await listElements(this.runner, this.family, this.name);
    this.#believed = table === undefined ? 'absent' : elementsOf(table);
    return table;
  }

  #elements(): ReadonlyMap<string, RelayElement> {
    return this.#believed === undefined || this.#believed === 'absent' ? new Map() : this.#believed;
  }

  async #drop(): Promise<void> {
    await runNft(this.runner, dropTable(this.family, this.name));
    this.#believed = 'absent';
  }

  async #change(wanted: Map<string, RelayElement>, table: NftElements | undefined): Promise<void> {
    const present = this.#believed;
    if (present === undefined || present === 'absent') {
      return wanted.size === 0 ? undefined : await this.#rebuild(wanted, undefined);
    }
    const remove: { set: RelaySet | 'current'; key: string }[] = [];
    const add: RelayElement[] = [];
    for (const [key, element] of present) if (!same(element, wanted.get(key))) remove.push(element);
    for (const [key, element] of wanted) if (!same(element, present.get(key))) add.push(element);
    this.#forget(wanted, remove, add);
    remove.push(...(await this.#staleTuples(add, table)));
    const text = renderRelayChange(this.family, this.name, remove, add);
    // Known tuples end by themselves within seconds; with the last session nothing at all stays behind.
    const rest = wanted.size === 0 ? `flush set ${this.family} ${this.name} current\n` : '';
    if (text !== '') await runNft(this.runner, text + rest);
    this.#believed = wanted;
    const now = this.clock.monotonic();
    for (const [port, at] of this.#lately) if (now - at > TUPLE_MEMORY) this.#lately.delete(port);
    for (const { set, port } of present.values()) {
      if (set === 'ours' && !wanted.has(`local ${port}`)) this.#lately.set(port, now);
    }
  }

  /** What was learned from an address that is vouched for no more must not be sent to any longer. */
  #forget(
    wanted: Map<string, RelayElement>,
    remove: { set: RelaySet | 'current'; key: string }[],
    add: RelayElement[],
  ) {
    const unvouched = new Set(remove.filter((e) => e.set === 'vouched').map((e) => e.key.split(' . ')[1]));
    for (const port of unvouched) {
      for (const set of ['ep_ip', 'ep_port'] as const) {
        const element = wanted.get(`${set} ${port}`);
        if (element === undefined || add.includes(element)) continue;
        remove.push(element);
        add.push(element);
      }
    }
  }

  /**
   * A port given out again within 2 s may still count its former peer's tuple as known, and would not learn it for as
   * long: such tuples are deleted. Only looked for where a port is new, and cheap there.
   */
  async #staleTuples(add: readonly RelayElement[], table: NftElements | undefined) {
    const fresh = new Set(add.filter((e) => e.set === 'ours').map((e) => e.port));
    const recent = [...fresh].some((port) => this.#lately.has(port));
    if (!recent) return [];
    const listed = table ?? (await listElements(this.runner, this.family, this.name));
    const keys = [...(listed?.get('current')?.keys() ?? [])];
    return keys.filter((key) => fresh.has(portOf('current', key))).map((key) => ({ set: 'current' as const, key }));
  }

  /** When ports were taken away, for as long as it matters. */
  readonly #lately = new Map<Port, Millis>();

  /** The whole table anew, atomically, carrying over what its packets had taught it. */
  async #rebuild(wanted: Map<string, RelayElement>, table: NftElements | undefined): Promise<void> {
    const lists = new Map<RelaySet, string[]>(RELAY_SETS.map((set) => [set, []]));
    for (const element of wanted.values()) {
      const learned = isLearned(element.set) ? table?.get(element.set)?.get(element.key) : undefined;
      lists.get(element.set)?.push(elementText({ key: element.key, value: learned ?? element.value }));
    }
    const drop = table === undefined ? '' : dropTable(this.family, this.name);
    await runNft(this.runner, drop + renderRelayTable(this.family, this.name, lists));
    this.#believed = wanted;
  }

  async #wanted(units: readonly RelayUnit[]): Promise<Map<string, RelayElement>> {
    const wanted = new Map<string, RelayElement>();
    const localOf = await localAddresses(this.runner, units);
    for (const unit of units) {
      for (const element of relayElements(unit, localOf(unit.localIp)))
        wanted.set(`${element.set} ${element.key}`, element);
    }
    return wanted;
  }

  /** Whether somebody changed the rules, chains or sets. */
  async #damaged(): Promise<boolean> {
    this.#structure ??= await canonicalStructure(this.runner, this.family, (name, flags) =>
      renderRelayTable(this.family, name, undefined, flags),
    );
    return (await listStructure(this.runner, this.family, this.name)) !== this.#structure;
  }
}

/** Equal as far as vpnd decides: what packets have learned is theirs. */
const same = (a: RelayElement, b: RelayElement | undefined): boolean =>
  b !== undefined && (isLearned(a.set) || a.value === b.value);

function elementsOf(table: NftElements): Map<string, RelayElement> {
  const out = new Map<string, RelayElement>();
  for (const set of RELAY_SETS) {
    for (const [key, value] of table.get(set) ?? []) {
      out.set(`${set} ${key}`, { set, key, value, port: portOf(set, key) });
    }
  }
  return out;
}

const portOf = (set: RelaySet | 'current', key: string): Port => Number(key.split(' . ')[PORT_AT[set]]) as Port;

/** Works whether or not the table is there. */
const dropTable = (family: RelayFamily, name: string): string =>
  `table ${family} ${name} {}\ndelete table ${family} ${name}\n`;

/**
 * The address that a relay port is on as this machine knows it: its public address, or, behind a provider's one-to-one
 * NAT where no interface has that, the address it sends from.
 */
async function localAddresses(runner: Runner, units: readonly RelayUnit[]): Promise<(ip: IpAddress) => IpAddress> {
  const own = new Set<string>();
  for (const list of Object.values(networkInterfaces())) for (const { address } of list ?? []) own.add(address);
  const translated = new Map<IpAddress, IpAddress>();
  for (const { localIp, next, vouched } of units) {
    if (own.has(localIp) || translated.has(localIp)) continue;
    const towards = next.kind === 'hop' ? next.endpoint.ip : vouched[0];
    if (towards === undefined) continue;
    translated.set(localIp, (await sourceTowards(runner, towards)) ?? localIp);
  }
  return (ip) => translated.get(ip) ?? ip;
}

async function sourceTowards(runner: Runner, destination: IpAddress): Promise<IpAddress | undefined> {
  try {
    const routes = parseIpJson(await runner.run('ip', ['-j', 'route', 'get', destination])) as readonly {
      prefsrc?: string;
    }[];
    const parsed = parseIp(routes[0]?.prefsrc ?? '');
    return parsed.ok ? parsed.value : undefined;
  } catch {
    return undefined;
  }
}
