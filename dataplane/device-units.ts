import type { Clock } from '../src/core/ports/clock.js';
import { sameEndpoint } from '../src/model/address.js';
import {
  type DeviceUnit,
  type InterfaceName,
  type PeerUnit,
  type Unit,
  type UnitId,
  unitIdOf,
} from '../src/model/dataplane.js';
import type { Devices, PreparedDevice } from './devices.js';
import type { Repairs } from './relay.js';
import { settled } from './settled.js';
import { type DeviceState, type PeerChange, planPeer } from './wireguard-state.js';

type Units = ReadonlyMap<UnitId, Unit>;

/** One change of a whole data plane, and what was desired before and is after it. */
export interface Step {
  readonly put: readonly Unit[];
  readonly remove: readonly UnitId[];
  readonly before: Units;
  readonly after: Units;
}

/** WireGuard devices and their peers: what units mean for each device, in one write for each. */
export class DeviceUnits {
  constructor(
    private readonly devices: Devices,
    private readonly clock: Pick<Clock, 'now'>,
  ) {}

  /**
   * Devices that are put, made and written, and the peers of all devices. `exempted` resolves when packets to their
   * endpoints would find the way: nothing is written before, while devices are made meanwhile.
   */
  async apply(
    step: Step,
    exempted: Promise<void>,
  ): Promise<readonly (PreparedDevice & { readonly unit: DeviceUnit })[]> {
    const { devices } = this;
    const { put, remove, before, after } = step;
    const writes = [...this.#touched(put, remove)].map(async (name) => {
      const unit = put.find((one) => one.kind === 'device' && one.name === name);
      const prepared = unit?.kind === 'device' ? { ...(await devices.prepare(unit)), unit } : undefined;
      const state: DeviceState = prepared?.state ?? (await devices.read(name));
      // A device made anew gets all its peers back, whether or not they are part of this change.
      const source = prepared?.created ? [...after.values()] : put;
      const changes: PeerChange[] = [];
      for (const peer of source) {
        if (peer.kind !== 'peer' || peer.device !== name) continue;
        const old = before.get(unitIdOf(peer));
        // With nothing remembered an explicit order counts, where a comparison would let a live peer be.
        const known = old?.kind === 'peer' ? old : { ...peer, endpoint: undefined };
        const change = planPeer(peer, state.peers.get(peer.publicKey), known, this.clock.now());
        if (change !== undefined) changes.push(change);
      }
      await exempted;
      const gone = [...state.peers.keys()].filter((key) => remove.includes(`peer/${name}/${key}` as UnitId));
      await devices.write(name, { ...prepared?.settings, put: changes, remove: gone }, state);
      return prepared === undefined ? [] : [prepared];
    });
    return (await settled(writes)).flat();
  }

  /**
   * Say again which endpoints a change has ordered, on these devices: packets that were on their way when it was
   * written have made WireGuard roam back, and with their pin in place now that cannot happen any more.
   */
  async repeatEndpoints(step: Step, names: ReadonlySet<InterfaceName>): Promise<void> {
    const ordered = step.put.filter((unit) => {
      if (unit.kind !== 'peer' || unit.endpoint === undefined || !names.has(unit.device)) return false;
      const old = step.before.get(unitIdOf(unit));
      return old?.kind === 'peer' && !sameEndpoint(unit.endpoint, old.endpoint);
    }) as readonly PeerUnit[];
    for (const name of new Set(ordered.map((unit) => unit.device))) {
      const state = await this.devices.read(name);
      const put = ordered.flatMap(({ device, publicKey, endpoint }) => {
        if (device !== name || endpoint === undefined) return [];
        const roamed = !sameEndpoint(endpoint, state.peers.get(publicKey)?.endpoint);
        return roamed ? [{ publicKey, fresh: false, endpoint }] : [];
      });
      await this.devices.write(name, { put, remove: [] }, state);
    }
  }

  /**
   * Put right what differs from `wanted`, naming it in `repairs`. `known`: what was desired before, whose endpoints
   * WireGuard may have roamed from. `made`: told of each device that had to be made anew.
   */
  async reconcile(wanted: Units, known: Units, repairs: Repairs, made: (name: InterfaceName) => void): Promise<void> {
    const { devices } = this;
    const units = [...wanted.values()].filter((unit) => unit.kind === 'device');
    const links = await devices.list(new Set(units.map((unit) => unit.name)));
    for (const unit of units) {
      const link = links.find((one) => one.name === unit.name);
      const prepared = await devices.prepare(unit, link);
      if (prepared.created) made(unit.name);
      if (prepared.created || prepared.lines.length > 0 || Object.keys(prepared.settings).length > 0) {
        repairs.repaired.add(unitIdOf(unit));
      }
      const changes: PeerChange[] = [];
      for (const peer of wanted.values()) {
        if (peer.kind !== 'peer' || peer.device !== unit.name) continue;
        const old = known.get(unitIdOf(peer));
        const before = old?.kind === 'peer' ? old : undefined;
        const change = planPeer(peer, prepared.state.peers.get(peer.publicKey), before, this.clock.now());
        if (change === undefined) continue;
        changes.push(change);
        repairs.repaired.add(unitIdOf(peer));
      }
      const gone = [...prepared.state.peers.keys()].filter((key) => !wanted.has(`peer/${unit.name}/${key}` as UnitId));
      for (const key of gone) repairs.removed.push(`peer ${unit.name} ${key}`);
      await devices.write(unit.name, { ...prepared.settings, put: changes, remove: gone }, prepared.state);
      await devices.batch(prepared.lines);
      devices.settled(unit);
    }
  }

  #touched(put: readonly Unit[], remove: readonly UnitId[]): ReadonlySet<InterfaceName> {
    const names = new Set<InterfaceName>();
    for (const unit of put) if (unit.kind === 'device') names.add(unit.name);
    for (const unit of put) if (unit.kind === 'peer') names.add(unit.device);
    for (const id of remove) {
      const device = /^peer\/([^/]+)\//.exec(id)?.[1] as InterfaceName | undefined;
      // A device that goes takes its peers along.
      if (device !== undefined && !remove.includes(`device/${device}` as UnitId) && this.devices.exists(device)) {
        names.add(device);
      }
    }
    return names;
  }
}
