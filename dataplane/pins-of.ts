import type { Port } from '../src/model/address.js';
import { type FullTunnelUnit, type InterfaceName, type Unit, type UnitId, unitIdOf } from '../src/model/dataplane.js';
import type { Devices } from './devices.js';
import type { Pin } from './pins-text.js';

type Units = ReadonlyMap<UnitId, Unit>;

export const tunnelsOf = (units: Units): readonly FullTunnelUnit[] =>
  [...units.values()].filter((unit) => unit.kind === 'full-tunnel');

/** The pins among these units, of tunnels whose device is there: without one nothing arrives. */
export async function pinsOf(units: Units, devices: Pick<Devices, 'exists' | 'read'>): Promise<readonly Pin[]> {
  const lists = tunnelsOf(units).map(async (unit) => {
    if (unit.pin === undefined || !devices.exists(unit.device)) return [];
    const { listenPort } = await devices.read(unit.device);
    return listenPort === 0 ? [] : [{ unit: { ...unit, pin: unit.pin }, listenPort: listenPort as Port }];
  });
  return (await Promise.all(lists)).flat();
}

/** Devices whose tunnel has got another pin, or lost the one it had. */
export function devicesRepinned(before: Units, after: Units): ReadonlySet<InterfaceName> {
  const pinIn = (units: Units, id: UnitId) => {
    const unit = units.get(id);
    return JSON.stringify(unit?.kind === 'full-tunnel' ? unit.pin : undefined);
  };
  const changed = tunnelsOf(after).filter((unit) => pinIn(before, unitIdOf(unit)) !== pinIn(after, unitIdOf(unit)));
  return new Set(changed.map((unit) => unit.device));
}
