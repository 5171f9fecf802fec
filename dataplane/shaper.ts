import type { IpAddress } from '../src/model/address.js';
import { type InterfaceName, type ShaperUnit, type Unit, type UnitId, unitIdOf } from '../src/model/dataplane.js';
import { toVpndError, VpndError } from '../src/model/errors.js';
import type { WireGuardPublicKey } from '../src/model/keys.js';
import type { Repairs } from './relay.js';
import { parseList, runBatch } from './routing.js';
import type { Runner } from './run.js';
import { parseSide, type ReadSide, sameRate } from './tc-list.js';
import {
  type ClassId,
  FIRST_SESSION,
  hostsOf,
  LAST_SESSION,
  type Leaf,
  nodeFor,
  OTHERS,
  type Rates,
  ratesOf,
  renderClass,
  renderClassRemoval,
  renderFilter,
  renderFilterRemoval,
  renderRedirects,
  renderSide,
  type ShapedSession,
  type ShaperSide,
  sidesOf,
  WHOLE,
} from './tc-text.js';

type Units = ReadonlyMap<UnitId, Unit>;

/** What is in the kernel, as it was last written. */
interface Shaped {
  readonly rates: Rates;
  readonly leaf: Leaf;
  /** Whose packets are turned aside. */
  readonly devices: Set<InterfaceName>;
  readonly classes: Map<WireGuardPublicKey, { readonly id: ClassId; readonly addresses: readonly IpAddress[] }>;
  /** Places of filters, the same at both sides. */
  readonly nodes: Map<IpAddress, string>;
}

const MISSING =
  'this kernel cannot limit bandwidth: it needs sch_htb, cls_u32, act_mirred, sch_ingress and ifb (modprobe them); or leave --max-mbps and --max-session-mbps out';

/**
 * The bandwidth of one owner's devices, by `tc`: each direction has an interface with a queue, and in it a class for each
 * session. Sessions without a class of their own share one.
 */
export class Shapers {
  #shaped: Shaped | undefined;
  readonly #sides: readonly [ShaperSide, ShaperSide];
  readonly #alias: string;
  /** Whether what a former process left has been looked for. */
  #looked = false;

  constructor(
    private readonly runner: Runner,
    owner: string,
  ) {
    this.#sides = sidesOf(owner);
    this.#alias = `vpnd:${owner}/shaper`;
  }

  /** Make the kernel equal to these units. Cheap where nothing of theirs has changed. */
  async apply(units: Units): Promise<void> {
    const wanted = wantedOf(units);
    const shaped = this.#shaped;
    if (wanted === undefined) {
      if (shaped !== undefined) await this.#remove(shaped.devices);
    } else if (shaped === undefined || !sameRates(shaped.rates, wanted.rates)) {
      await this.#make(wanted, shaped?.devices ?? new Set());
    } else {
      await this.#turnAside(shaped, wanted.devices);
      await this.#change(shaped, wanted.sessions);
    }
  }

  /** The kernel took a device's queues away with it. */
  forgetDevice(device: InterfaceName): void {
    this.#shaped?.devices.delete(device);
  }

  async reconcile(units: Units, repairs: Repairs): Promise<void> {
    const wanted = wantedOf(units);
    if (wanted === undefined) {
      if (this.#shaped === undefined && this.#looked) return;
      this.#looked = true;
      const left = await this.#links();
      for (const { name } of left) repairs.removed.push(`interface ${name}`);
      if (this.#shaped !== undefined || left.length > 0) await this.#remove(this.#shaped?.devices ?? new Set());
      return;
    }
    this.#looked = true;
    const before = this.#shaped?.devices ?? new Set();
    const present = await this.#adopt(wanted);
    if (present === undefined) await this.#make(wanted, before);
    const turned = present !== undefined && (await this.#turnAside(present, wanted.devices));
    const changed = present !== undefined && (await this.#change(present, wanted.sessions));
    if (present !== undefined && !turned && !changed) return;
    for (const unit of wanted.units) repairs.repaired.add(unitIdOf(unit));
  }

  async inventory(): Promise<readonly string[]> {
    return (await this.#links()).map(({ name }) => `interface ${name}: bandwidth of clients`);
  }

  /** From nothing, whatever was there. What waits in the queues is lost. */
  async #make(wanted: Wanted, before: ReadonlySet<InterfaceName>): Promise<void> {
    await this.#remove(new Set([...before, ...wanted.devices]));
    try {
      for (const { device } of this.#sides) {
        await this.runner.run('ip', ['link', 'add', 'dev', device, 'type', 'ifb']).catch((thrown: unknown) => {
          throw complaint(thrown);
        });
        await runBatch(this.runner, [`link set dev ${device} alias ${this.#alias}`, `link set dev ${device} up`]);
      }
      const leaf = await this.#leafOf(this.#sides[0].device);
      await this.#batch(this.#sides.flatMap((side) => renderSide(wanted.rates, side, leaf)));
      const shaped: Shaped = { rates: wanted.rates, leaf, devices: new Set(), classes: new Map(), nodes: new Map() };
      await this.#change(shaped, wanted.sessions);
      // Last: nothing is turned aside before it would be let out again.
      await this.#turnAside(shaped, wanted.devices);
      this.#shaped = shaped;
    } catch (thrown) {
      await this.#remove(wanted.devices).catch(() => {});
      throw thrown;
    }
  }

  /** True where a device had to be. */
  async #turnAside(shaped: Shaped, wanted: ReadonlySet<InterfaceName>): Promise<boolean> {
    for (const device of [...shaped.devices]) {
      if (wanted.has(device)) continue;
      await this.#letBe(device);
      shaped.devices.delete(device);
    }
    const coming = [...wanted].filter((device) => !shaped.devices.has(device));
    for (const device of coming) {
      await this.#letBe(device);
      await this.#batch(renderRedirects(device, this.#sides));
      shaped.devices.add(device);
    }
    return coming.length > 0;
  }

  /** Classes and filters of sessions that come and go, in one call. True where there were any. */
  async #change(shaped: Shaped, sessions: readonly ShapedSession[]): Promise<boolean> {
    const { rates, leaf, classes, nodes } = shaped;
    const wanted = new Map(sessions.map((session) => [session.key, session]));
    const gone = [...classes].filter(([key, { addresses }]) => !sameList(addresses, wanted.get(key)?.addresses));
    const lines: string[] = [];
    for (const [key, { id, addresses }] of gone) {
      for (const side of this.#sides) {
        for (const address of addresses) lines.push(renderFilterRemoval(side, address, nodes.get(address) ?? ''));
        lines.push(renderClassRemoval(side, id));
      }
      for (const address of addresses) nodes.delete(address);
      classes.delete(key);
    }
    const taken = new Set([...classes.values()].map(({ id }) => id));
    let id = FIRST_SESSION;
    for (const { key, addresses } of sessions) {
      // Two that claim one address cannot both have it; WireGuard gives it to one of them, too.
      if (classes.has(key) || addresses.some((address) => nodes.has(address))) continue;
      while (taken.has(id)) id++;
      if (id > LAST_SESSION) break;
      taken.add(id);
      for (const address of addresses) nodes.set(address, nodeFor(address, nodes.values()));
      for (const side of this.#sides) {
        lines.push(...renderClass(rates, side, leaf, id));
        for (const address of addresses) lines.push(renderFilter(side, address, nodes.get(address) ?? '', id));
      }
      classes.set(key, { id, addresses });
    }
    try {
      await this.#batch(lines);
      return lines.length > 0;
    } catch (thrown) {
      // What the kernel has now is not known: the next change makes all of it anew.
      this.#shaped = undefined;
      throw thrown;
    }
  }

  /** What the kernel has, where that is what was asked for but for devices and sessions; undefined where it has to be made. */
  async #adopt({ rates, devices, sessions }: Wanted): Promise<Shaped | undefined> {
    const links = await this.#links();
    if (!this.#sides.every(({ device }) => links.some(({ name, up }) => name === device && up))) return undefined;
    const read = await Promise.all(this.#sides.map(({ device }) => this.#read(device))).catch(() => []);
    const [down, up] = read;
    const leaf = down?.leaves.get(OTHERS);
    if (down === undefined || up === undefined || leaf === undefined) return undefined;
    if (!isWhole(down, rates, leaf) || !isWhole(up, rates, leaf)) return undefined;
    if (JSON.stringify(contentOf(down)) !== JSON.stringify(contentOf(up))) return undefined;
    const shaped: Shaped = { rates, leaf, devices: new Set(), classes: new Map(), nodes: new Map() };
    for (const device of devices) if (await this.#isTurnedAside(device)) shaped.devices.add(device);
    for (const [address, { node }] of down.filters) shaped.nodes.set(address, node);
    for (const id of down.classes.keys()) {
      if (id < FIRST_SESSION || id > LAST_SESSION) continue;
      const addresses = [...down.filters].flatMap(([address, { classId }]) => (classId === id ? [address] : []));
      const session = sessions.find((one) => one.addresses.some((address) => addresses.includes(address)));
      // One that nobody has any more goes by a name that no session has.
      shaped.classes.set(session?.key ?? (`class ${id}` as WireGuardPublicKey), { id, addresses: addresses.sort() });
    }
    this.#shaped = shaped;
    return shaped;
  }

  async #read(device: InterfaceName): Promise<ReadSide> {
    const [qdiscs, classes, filters] = await Promise.all([
      this.runner.run('tc', ['qdisc', 'show', 'dev', device]),
      this.runner.run('tc', ['class', 'show', 'dev', device]),
      this.runner.run('tc', ['filter', 'show', 'dev', device, 'parent', '1:']),
    ]);
    return parseSide({ qdiscs, classes, filters });
  }

  async #isTurnedAside(device: InterfaceName): Promise<boolean> {
    const show = (way: string) => this.runner.run('tc', ['filter', 'show', 'dev', device, way]).catch(() => '');
    const [out, into] = await Promise.all([show('egress'), show('ingress')]);
    const [down, up] = this.#sides;
    const leads = (text: string, side: ShaperSide) => text.includes(`(Egress Redirect to device ${side.device})`);
    return leads(out, down) && leads(into, up);
  }

  async #remove(devices: ReadonlySet<InterfaceName>): Promise<void> {
    this.#shaped = undefined;
    for (const device of devices) await this.#letBe(device);
    for (const { name } of await this.#links()) await this.runner.run('ip', ['link', 'del', 'dev', name]);
  }

  /** No error where nothing is turned aside, or the device is gone. */
  async #letBe(device: InterfaceName): Promise<void> {
    await this.runner.run('tc', ['qdisc', 'del', 'dev', device, 'clsact']).catch(() => {});
  }

  /** fq_codel where the kernel has it: it keeps queues short, and one connection out of another's way. */
  async #leafOf(device: InterfaceName): Promise<Leaf> {
    try {
      await this.runner.run('tc', ['qdisc', 'add', 'dev', device, 'root', 'fq_codel']);
      await this.runner.run('tc', ['qdisc', 'del', 'dev', device, 'root']);
      return 'fq_codel';
    } catch {
      return 'bfifo';
    }
  }

  async #batch(lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return;
    await this.runner.run('tc', ['-batch', '-'], { input: `${lines.join('\n')}\n` }).catch((thrown: unknown) => {
      throw complaint(thrown);
    });
  }

  /** Our interfaces; a kernel that knows no such kind has none. */
  async #links(): Promise<readonly { readonly name: InterfaceName; readonly up: boolean }[]> {
    const json = await this.runner.run('ip', ['-j', 'link', 'show', 'type', 'ifb']).catch(() => '');
    return parseList<{ ifname?: string; ifalias?: string; flags?: readonly string[] }>(json).flatMap((link) =>
      link.ifalias === this.#alias
        ? [{ name: link.ifname as InterfaceName, up: link.flags?.includes('UP') === true }]
        : [],
    );
  }
}

/** A kernel without something that is needed says so in as many ways as there are things. */
function complaint(thrown: unknown): VpndError {
  const error = toVpndError(thrown);
  return /kind is unknown|classifier not found|action module|Unknown device type|not supported/i.test(error.message)
    ? new VpndError('dataplane', MISSING, { cause: error })
    : error;
}

interface Wanted {
  readonly units: readonly ShaperUnit[];
  readonly rates: Rates;
  readonly devices: ReadonlySet<InterfaceName>;
  readonly sessions: readonly ShapedSession[];
}

/** What units mean: all shapers of a data plane are one, so that an exit that changes devices keeps its limit. */
function wantedOf(units: Units): Wanted | undefined {
  const all = [...units.values()];
  const shapers = all.filter((unit) => unit.kind === 'shaper');
  const [first] = shapers;
  if (first === undefined) return undefined;
  const devices = new Set(shapers.map((unit) => unit.device));
  const sessions = all.flatMap((unit) => {
    if (unit.kind !== 'peer' || !devices.has(unit.device)) return [];
    const addresses = [...hostsOf(unit.allowedIps)].sort();
    return addresses.length === 0 ? [] : [{ key: unit.publicKey, addresses }];
  });
  return { units: shapers, rates: { rate: first.rate, sessionRate: first.sessionRate }, devices, sessions };
}

function isWhole(side: ReadSide, rates: Rates, leaf: Leaf): boolean {
  const { whole, each } = ratesOf(rates);
  const shown = side.classes.get(WHOLE);
  if (!side.framed || !side.classes.has(OTHERS) || (shown === undefined) !== (whole === undefined)) return false;
  if (whole !== undefined && shown !== undefined && !sameRate(shown.ceil, whole)) return false;
  return [...side.classes].every(
    ([id, { rate, ceil }]) =>
      id === WHOLE || (sameRate(rate, each.rate) && sameRate(ceil, each.ceil) && side.leaves.get(id) === leaf),
  );
}

const contentOf = ({ classes, filters }: ReadSide): unknown => [[...classes.keys()].sort(), [...filters].sort()];
const sameRates = (a: Rates, b: Rates): boolean => a.rate === b.rate && a.sessionRate === b.sessionRate;
const sameList = (a: readonly IpAddress[], b: readonly IpAddress[] | undefined): boolean =>
  b !== undefined && a.length === b.length && a.every((one, i) => one === b[i]);
