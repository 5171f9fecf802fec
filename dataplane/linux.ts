import type { Clock } from '../src/core/ports/clock.js';
import type { DataPlane, Reconciliation, UnitChange } from '../src/core/ports/dataplane.js';
import type { Log } from '../src/core/ports/log.js';
import { familyOf, type IpAddress, type Port } from '../src/model/address.js';
import {
  type DeviceTraffic,
  type EgressObservation,
  type InterfaceName,
  KILL_SWITCH,
  type PeerObservation,
  type PinObservation,
  type RelayObservation,
  type RelayUnit,
  type Unit,
  type UnitId,
  unitIdOf,
} from '../src/model/dataplane.js';
import { toVpndError } from '../src/model/errors.js';
import { ChangeQueue } from './change-queue.js';
import { countConnections, resetConnections } from './connections.js';
import { detectEngine, requireHost } from './detect.js';
import { DeviceUnits, type Step } from './device-units.js';
import { Devices, type Engine } from './devices.js';
import { EgressParts } from './egress.js';
import { countExcluded } from './excluded-programs.js';
import { FilterTables } from './filter.js';
import { filterSpecs } from './filter-specs.js';
import type { FilterUnit } from './filter-text.js';
import { type Launcher, startLauncher } from './launcher.js';
import { PinTables } from './pins.js';
import { devicesRepinned, pinsOf, tunnelsOf } from './pins-of.js';
import { Protection } from './protection.js';
import { RelayTable, type Repairs } from './relay.js';
import { RoutingTable } from './routing.js';
import { type Owner, PROTOCOL, type RoutingUnit } from './routing-text.js';
import { createRunner, type Runner, TOOL_DIRECTORIES } from './run.js';
import { settled } from './settled.js';
import { Shapers } from './shaper.js';
import { forwardIpv4, forwardIpv6, reservePorts } from './sysctl.js';
import { readTraffic } from './traffic.js';
import { checkTogether, checkUnit } from './validate.js';

export interface LinuxDataPlaneOptions {
  /** Whose state this is: part of every name in the kernel, so that roles on one machine leave each other alone. */
  readonly owner: Owner;
  readonly engine: 'auto' | 'kernel' | 'userspace';
  /** Kept from other programs' sockets. */
  readonly relayPorts?: { readonly from: Port; readonly to: Port };
  /** Where programs are looked for; the fixed system directories unless given. */
  readonly toolDirectories?: readonly string[];
  /** For daemons: programs are started from a small process beside this one. */
  readonly launcher?: boolean;
  /** Where a kill switch that is to be there at the next boot is kept; nowhere unless given. */
  readonly lockdownFile?: string;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * The data plane of this machine. Rejects with VpndError `no-root`, `no-tool`, `no-nft`, `no-wireguard` or `no-tun`
 * where something is missing. After a start `reconcile` comes first: it adopts what a former process left.
 */
export async function openLinuxDataPlane(options: LinuxDataPlaneOptions): Promise<DataPlane> {
  const launcher = options.launcher ? startLauncher(options.log) : undefined;
  try {
    return await open(options, launcher);
  } catch (thrown) {
    launcher?.close();
    throw thrown;
  }
}

async function open(options: LinuxDataPlaneOptions, launcher: Launcher | undefined): Promise<DataPlane> {
  const runner = createRunner(options.toolDirectories ?? TOOL_DIRECTORIES, launcher?.launch);
  await requireHost(runner);
  const engine = await detectEngine(runner, options.engine);
  const name = `vpnd_${options.owner}`;
  const devices = new Devices(runner, options.owner, engine, options.engine === 'auto', options.log);
  const egress = new EgressParts(runner, name, options.log);
  const parts: Parts = {
    runner,
    devices,
    deviceUnits: new DeviceUnits(devices, options.clock),
    relays: {
      4: new RelayTable(runner, 'ip', name, options.clock),
      6: new RelayTable(runner, 'ip6', name, options.clock),
    },
    filters: new FilterTables(runner, filterSpecs(name, egress), options.log),
    egress,
    shapers: new Shapers(runner, options.owner),
    protection: new Protection(runner, name, options.log, options.lockdownFile),
    pins: new PinTables(runner, name),
    routing: new RoutingTable(runner, PROTOCOL[options.owner], (device) => devices.exists(device)),
  };
  await Promise.all([
    parts.devices.list(),
    parts.routing.prime(),
    parts.filters.prime(),
    parts.protection.prime(),
    parts.pins.prime(),
  ]);
  return new LinuxDataPlane(engine, parts, options, launcher);
}

interface Parts {
  readonly runner: Runner;
  readonly devices: Devices;
  readonly deviceUnits: DeviceUnits;
  readonly relays: Readonly<Record<4 | 6, RelayTable>>;
  readonly filters: FilterTables;
  readonly egress: EgressParts;
  readonly shapers: Shapers;
  readonly protection: Protection;
  readonly pins: PinTables;
  readonly routing: RoutingTable;
}

class LinuxDataPlane implements DataPlane {
  /** What has been applied, and is in the kernel unless somebody else took it away. */
  #units: ReadonlyMap<UnitId, Unit> = new Map();
  readonly #queue: ChangeQueue;

  constructor(
    readonly engine: Engine,
    private readonly parts: Parts,
    private readonly options: LinuxDataPlaneOptions,
    private readonly launcher: Launcher | undefined,
  ) {
    this.#queue = new ChangeQueue((change) => this.#applyOrUndo(change));
  }

  async apply(change: UnitChange): Promise<void> {
    for (const unit of change.put ?? []) checkUnit(unit);
    await this.#queue.apply(change);
  }

  async reconcile(desired: readonly Unit[]): Promise<Reconciliation> {
    for (const unit of desired) checkUnit(unit);
    return await this.#queue.alone(() => this.#reconcile(desired));
  }

  async observePeers(): Promise<readonly PeerObservation[]> {
    const lists = this.parts.devices.names().map(async (device) => {
      const state = await this.parts.devices.read(device).catch((thrown: unknown) => {
        this.options.log.debug('a device cannot be read', { unit: `device/${device}`, err: toVpndError(thrown) });
        return undefined;
      });
      return [...(state?.peers.values() ?? [])].map(({ publicKey, endpoint, lastHandshake, rxBytes, txBytes }) => ({
        device,
        publicKey,
        endpoint,
        lastHandshake,
        rxBytes,
        txBytes,
      }));
    });
    return (await Promise.all(lists)).flat();
  }

  async observeRelays(): Promise<readonly RelayObservation[]> {
    const lists = await Promise.all([this.parts.relays[4].observe(), this.parts.relays[6].observe()]);
    return lists.flat();
  }

  traffic(device: InterfaceName): DeviceTraffic | undefined {
    return readTraffic(device);
  }

  async observePins(): Promise<readonly PinObservation[]> {
    return await this.parts.pins.observe();
  }

  async observeEgress(): Promise<EgressObservation> {
    return await this.parts.egress.observe([...this.#units.values()]);
  }

  async resetConnections(from: readonly IpAddress[]): Promise<void> {
    await resetConnections(this.parts.runner, from, this.options.log);
  }

  async openConnections(from: readonly IpAddress[]): Promise<number> {
    return await countConnections(this.parts.runner, from, this.options.log);
  }

  async uplinks(): Promise<{ readonly ipv4: boolean; readonly ipv6: boolean }> {
    const [ipv4, ipv6] = await Promise.all([this.parts.routing.hasDefault(4), this.parts.routing.hasDefault(6)]);
    return { ipv4, ipv6 };
  }

  lockedDown(): boolean {
    return this.parts.protection.isLockedDown();
  }

  excludedPrograms(): number | undefined {
    return countExcluded();
  }

  async inventory(): Promise<readonly string[]> {
    const { devices, relays, filters, protection, pins, routing } = this.parts;
    const links = await devices.list();
    const lists = await Promise.all([
      ...links.map(async (link) => {
        const peers = (await devices.read(link.name).catch(() => undefined))?.peers.keys() ?? [];
        return [
          `device ${link.name} (${link.engine})${link.up ? '' : ' down'} ${link.addresses.join(' ')}`.trimEnd(),
          ...[...peers].sort().map((key) => `peer ${link.name} ${key}`),
        ];
      }),
      relays[4].inventory(),
      relays[6].inventory(),
      filters.inventory(),
      protection.inventory(),
      pins.inventory(),
      this.parts.shapers.inventory(),
      routing.inventory(),
    ]);
    return lists.flat();
  }

  async close(): Promise<void> {
    await this.#queue.close();
    this.launcher?.close();
  }

  async #applyOrUndo(change: UnitChange): Promise<void> {
    const before = this.#units;
    try {
      await this.#apply(change);
    } catch (thrown) {
      this.#units = before;
      const error = toVpndError(thrown);
      // Refused before anything was touched.
      if (error.code === 'bad-config') throw error;
      const touched = new Set([...(change.put ?? []).map(unitIdOf), ...(change.remove ?? [])]);
      const put = [...touched].flatMap((id) => before.get(id) ?? []);
      const undo: UnitChange = { put, remove: [...touched].filter((id) => !before.has(id)) };
      await this.#apply(undo).catch((second: unknown) => {
        this.options.log.warn('a failed change of the data plane could not be undone; the next comparison repairs it', {
          err: toVpndError(second),
        });
      });
      this.#units = before;
      throw error;
    }
  }

  async #apply(change: UnitChange): Promise<void> {
    const { devices, filters, routing, protection } = this.parts;
    const before = this.#units;
    const after = new Map(before);
    for (const id of change.remove ?? []) after.delete(id);
    for (const unit of change.put ?? []) after.set(unitIdOf(unit), unit);
    const put = (change.put ?? []).filter((unit) => after.get(unitIdOf(unit)) === unit);
    const remove = (change.remove ?? []).filter((id) => !after.has(id));
    checkTogether(after, put, (name) => devices.isOurs(name) && devices.exists(name));

    const filterChanges = put.some(isRoutingUnit) || remove.some(isRoutingId);
    if (put.some((unit) => unit.kind === 'egress')) await this.parts.egress.look();
    // A device never stands without its filter: what is new comes first, what goes leaves last.
    const step = { put, remove, before, after };
    const union = new Map([...[...before].filter(([, unit]) => isRoutingUnit(unit)), ...after]);
    this.#forward(put);
    const passing = filterChanges ? protection.widen(before, after) : Promise.resolve();
    const guarded = filterChanges ? filters.apply([...union.values()].filter(isFilterUnit)) : Promise.resolve();
    const routable = filterChanges ? routing.exempt([...union.values()].filter(isRoutingUnit)) : Promise.resolve();
    const exempted = settled([routable, passing]).then(() => {});
    const [prepared] = await settled([
      this.parts.deviceUnits.apply(step, exempted),
      exempted,
      this.#applyRelays(put, remove),
      // A client's tunnel can come up beside its guard; an exit's device cannot.
      put.some((unit) => unit.kind === 'egress') ? guarded : Promise.resolve(),
    ]).catch(async (thrown) => {
      await guarded.catch(() => {});
      throw thrown;
    });
    const lines = prepared.flatMap((device) => device.lines);
    const created = prepared.filter((device) => device.created);
    for (const device of created) {
      routing.forgetDevice(device.unit.name);
      this.parts.shapers.forgetDevice(device.unit.name);
    }
    const routed = [...after.values()].filter(isRoutingUnit);
    // With the last tunnel's rules its connections would find another way out for a moment: not without its address.
    if (isLastTunnel(before, after)) await this.#removeDevices(remove, after);
    const routes = filterChanges || created.length > 0 ? routing.apply(routed, lines) : devices.batch(lines);
    await settled([routes, guarded]);
    for (const { unit } of prepared) devices.settled(unit);

    await this.#removeDevices(remove, after);
    if (filterChanges)
      await Promise.all([filters.apply(routed.filter(isFilterUnit)), protection.settle(before, after)]);
    if (filterChanges || created.length > 0) await this.#pin(step);
    await this.parts.shapers.apply(after);
    this.#units = after;
  }

  async #removeDevices(remove: readonly UnitId[], after: Map<UnitId, Unit>): Promise<void> {
    const { devices, routing } = this.parts;
    for (const id of remove.filter((one) => one.startsWith('device/'))) {
      const name = id.slice('device/'.length) as InterfaceName;
      await devices.remove(name);
      routing.forgetDevice(name);
      // Its peers are gone with it.
      for (const key of after.keys()) if (key.startsWith(`peer/${name}/`)) after.delete(key);
    }
  }

  /**
   * Pins come after the endpoints: a host firewall takes packets for answers once this machine has sent to where they
   * seem to come from. What WireGuard has made of packets in between is put right.
   */
  async #pin(step: Step): Promise<void> {
    const { pins, deviceUnits } = this.parts;
    const wanted = await pinsOf(step.after, this.parts.devices);
    if (!pins.differ(wanted)) return;
    await pins.apply(wanted);
    await deviceUnits.repeatEndpoints(step, devicesRepinned(step.before, step.after));
  }

  async #applyRelays(put: readonly Unit[], remove: readonly UnitId[]): Promise<void> {
    const units = put.filter((unit) => unit.kind === 'relay');
    const ports = remove.flatMap((id) => (id.startsWith('relay/') ? [Number(id.slice('relay/'.length)) as Port] : []));
    if (units.length + ports.length === 0) return;
    for (const family of [4, 6] as const) {
      const own = units.filter((unit) => familyOf(unit.localIp) === family);
      // A port may have moved to the other family: it goes from the table that it is not in.
      const elsewhere = units.filter((unit) => familyOf(unit.localIp) !== family && this.#hadOther(unit));
      const gone = [...ports, ...elsewhere.map((unit) => unit.port)];
      const relevant = own.length > 0 || gone.some((port) => this.#mayHold(port, family));
      if (relevant) await this.parts.relays[family].apply(own, gone);
    }
  }

  #hadOther(unit: RelayUnit): boolean {
    const old = this.#units.get(unitIdOf(unit));
    return old?.kind === 'relay' && familyOf(old.localIp) !== familyOf(unit.localIp);
  }

  /** Whether a family's table may have this port: certain for what this process put, possible for what it did not. */
  #mayHold(port: Port, family: 4 | 6): boolean {
    const old = this.#units.get(`relay/${port}` as UnitId);
    return old?.kind !== 'relay' || familyOf(old.localIp) === family;
  }

  /** Kernel settings that units need; true when one had been wrong. */
  #forward(units: readonly Unit[]): boolean {
    let changed = false;
    for (const unit of units) {
      if (unit.kind === 'relay') changed = (familyOf(unit.localIp) === 4 ? forwardIpv4() : forwardIpv6()) || changed;
      if (unit.kind !== 'egress') continue;
      changed = forwardIpv4() || changed;
      if (unit.ipv6) changed = forwardIpv6() || changed;
    }
    return changed;
  }

  async #reconcile(desired: readonly Unit[]): Promise<Reconciliation> {
    const { devices, relays, filters, routing, protection } = this.parts;
    if (this.options.relayPorts !== undefined) reservePorts(this.options.relayPorts, this.options.log);
    const wanted = new Map(desired.map((unit) => [unitIdOf(unit), unit]));
    checkTogether(wanted, desired, () => false);
    const repairs: Repairs = { repaired: new Set(), removed: [] };
    if (this.#forward(desired)) {
      for (const unit of desired)
        if (unit.kind === 'egress' || unit.kind === 'relay') repairs.repaired.add(unitIdOf(unit));
    }
    const filtering = desired.filter(isFilterUnit);
    // This machine is in another network than before: nobody has changed our rules, they follow.
    if (desired.some((unit) => unit.kind === 'egress') && (await this.parts.egress.look())) {
      const before = [...this.#units.values()].filter(isFilterUnit);
      if (before.length > 0) await filters.apply(before).catch(() => {});
    }
    const routed = desired.filter(isRoutingUnit);
    const failures: unknown[] = [];
    const attempt = async (step: () => Promise<void>) => {
      try {
        await step();
      } catch (thrown) {
        failures.push(thrown);
      }
    };
    // First where there is one, last where there is none: traffic is let out when nothing of a tunnel is left.
    const protects = wanted.has(KILL_SWITCH);
    if (protects) await attempt(() => protection.reconcile(wanted, repairs));
    // Filters that are needed come before devices; nothing here takes one away from a device that stays.
    await attempt(() => filters.reconcile(filtering, repairs));
    await attempt(() =>
      this.parts.deviceUnits.reconcile(wanted, this.#units, repairs, (name) => {
        routing.forgetDevice(name);
        this.parts.shapers.forgetDevice(name);
      }),
    );
    await attempt(() => this.parts.shapers.reconcile(wanted, repairs));
    await attempt(() => routing.reconcile(routed, repairs));
    await attempt(async () => this.parts.pins.reconcile(await pinsOf(wanted, this.parts.devices), repairs));
    const relayed = desired.filter((unit) => unit.kind === 'relay');
    for (const family of [4, 6] as const) {
      const own = relayed.filter((unit) => familyOf(unit.localIp) === family);
      await attempt(() => relays[family].reconcile(own, repairs));
    }
    await attempt(async () => {
      const names = new Set(desired.flatMap((unit) => (unit.kind === 'device' ? [unit.name] : [])));
      for (const link of await devices.list()) {
        if (names.has(link.name)) continue;
        repairs.removed.push(`device ${link.name}`);
        await devices.remove(link.name);
        routing.forgetDevice(link.name);
      }
    });
    if (!protects) await attempt(() => protection.reconcile(wanted, repairs));
    if (failures.length > 0) throw toVpndError(failures[0]);
    this.#units = wanted;
    return { repaired: [...repairs.repaired], removed: repairs.removed };
  }
}

const isFilterUnit = (unit: Unit): unit is FilterUnit => unit.kind === 'egress' || unit.kind === 'full-tunnel';
const isRoutingUnit = (unit: Unit): unit is RoutingUnit => isFilterUnit(unit) || unit.kind === 'kill-switch';
const isLastTunnel = (before: ReadonlyMap<UnitId, Unit>, after: ReadonlyMap<UnitId, Unit>): boolean =>
  tunnelsOf(before).length > 0 && tunnelsOf(after).length === 0;

const isRoutingId = (id: UnitId): boolean => /^(?:egress|full-tunnel|kill-switch)\//.test(id);
