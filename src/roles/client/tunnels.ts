import type { ClientConfig } from '../../config/types.js';
import type { DataPlane, Reconciliation } from '../../core/ports/dataplane.js';
import type { Log } from '../../core/ports/log.js';
import type { InterfaceName, Unit, UnitId } from '../../model/dataplane.js';
import { unitIdOf } from '../../model/dataplane.js';
import type { SessionId } from '../../model/ids.js';
import type { WireGuardKeyPair } from '../../model/keys.js';
import { slotDevice } from '../common/slot-device.js';
import type { Exemption } from './exemptions.js';
import type { Protection } from './protection.js';
import { checkStep } from './steps.js';
import { type HeldTunnel, hasSession, isInForce, type Tunnel, tunnelUnits } from './tunnel.js';

/** The active one, its standby, and one that retires or is being made. */
export const SLOTS = 3;

/** Of all the tunnels that a client may have. */
export const slotDevices = (base: InterfaceName): readonly InterfaceName[] =>
  Array.from({ length: SLOTS }, (_, slot) => slotDevice(base, slot));

/** The client's tunnels: what they are, and the one way in which a change of them reaches the kernel. */
export class Tunnels {
  readonly #slots = new Map<number, Tunnel>();
  /** What the kernel was last told; a comparison repairs the rest. */
  #told: ReadonlyMap<UnitId, Unit> = new Map();

  constructor(
    private readonly config: ClientConfig,
    private readonly dataplane: DataPlane,
    private readonly exempt: () => readonly Exemption[],
    private readonly log: Log,
    /** What keeps traffic in them, by what they ask for. */
    private readonly protection: Pick<Protection, 'units'>,
  ) {}

  all(): readonly Tunnel[] {
    return [...this.#slots.values()];
  }

  held(): readonly HeldTunnel[] {
    return this.all().filter(hasSession);
  }

  inForce(): readonly HeldTunnel[] {
    return this.all().filter(isInForce);
  }

  get(slot: number): Tunnel | undefined {
    return this.#slots.get(slot);
  }

  active(): HeldTunnel | undefined {
    return this.held().find((tunnel) => tunnel.use === 'active');
  }

  withSession(session: SessionId): HeldTunnel | undefined {
    return this.held().find((tunnel) => tunnel.held.session === session);
  }

  /** A free slot, taken at once; undefined when there is none. */
  reserve(keys: WireGuardKeyPair): Tunnel | undefined {
    for (let slot = 0; slot < SLOTS; slot++) {
      if (this.#slots.has(slot)) continue;
      const tunnel = this.#blank(slot, keys);
      this.#slots.set(slot, tunnel);
      return tunnel;
    }
    return undefined;
  }

  /** For a session that is on record: exactly that slot. */
  restore(slot: number, tunnel: Pick<HeldTunnel, 'use' | 'held' | 'holds'>): void {
    this.#slots.set(slot, { ...this.#blank(slot, tunnel.held.keys), ...tunnel });
  }

  /** In memory only; `commit` brings it to the kernel. */
  put(tunnel: Tunnel): void {
    const before = this.#slots.get(tunnel.slot);
    if (tunnel.held !== undefined) {
      checkStep(this.log, 'tunnel', before?.held === undefined ? 'none' : before.use, tunnel.use);
      if (before !== undefined && hasSession(before) && hasSession(tunnel)) {
        checkStep(this.log, 'path', wayOf(before), wayOf(tunnel));
      }
    }
    this.#slots.set(tunnel.slot, tunnel);
  }

  drop(slot: number): void {
    this.#slots.delete(slot);
  }

  dropAll(): void {
    this.#slots.clear();
  }

  /** Make the kernel follow, by what differs from the last time. Rejects with what the data plane rejects with. */
  async commit(): Promise<void> {
    const before = this.#told;
    const wanted = this.#wanted();
    const put = [...wanted].filter(([id, unit]) => !same(before.get(id), unit)).map(([, unit]) => unit);
    const remove = [...before.keys()].filter((id) => !wanted.has(id));
    if (put.length === 0 && remove.length === 0) return;
    this.#told = wanted;
    try {
      await this.dataplane.apply({ put, remove });
    } catch (thrown) {
      if (this.#told === wanted) this.#told = before;
      throw thrown;
    }
  }

  /** WireGuard forgets what it knows of a tunnel's peer, and begins with a handshake. */
  async remakePeer(slot: number): Promise<void> {
    const told = [...this.#told].filter(([, unit]) => unit.kind === 'peer' && unit.device === this.get(slot)?.device);
    for (const [id, unit] of told) {
      await this.dataplane.apply({ remove: [id] });
      await this.dataplane.apply({ put: [unit] });
    }
  }

  /** Compare everything. */
  async reconcile(): Promise<Reconciliation> {
    const wanted = this.#wanted();
    this.#told = wanted;
    return this.dataplane.reconcile([...wanted.values()]);
  }

  #wanted(): ReadonlyMap<UnitId, Unit> {
    const exempt = this.exempt();
    const units = this.all().flatMap((tunnel) => tunnelUnits(tunnel, exempt));
    return new Map([...units, ...this.protection.units(units, exempt)].map((unit) => [unitIdOf(unit), unit]));
  }

  #blank(slot: number, keys: WireGuardKeyPair): Tunnel {
    return {
      slot,
      device: slotDevice(this.config.interface, slot),
      table: this.config.table + slot,
      keys,
      use: 'standby',
      held: undefined,
      holds: false,
      pin: undefined,
      search: undefined,
      carriedAt: undefined,
    };
  }
}

/** The way its packets take, as docs/sessions.md names it. */
const wayOf = (tunnel: HeldTunnel): string => (tunnel.carriedAt === undefined ? tunnel.held.path : 'stream');

/** Both are made by `tunnelUnits`, with their fields in the same order. */
const same = (a: Unit | undefined, b: Unit): boolean => a !== undefined && JSON.stringify(a) === JSON.stringify(b);
