import type { DataPlane, Reconciliation, UnitChange } from '../src/core/ports/dataplane.js';
import { type Endpoint, formatHostPort, type IpAddress, type Port, sameEndpoint } from '../src/model/address.js';
import type {
  DeviceTraffic,
  EgressObservation,
  EgressUnit,
  EndpointPin,
  FullTunnelUnit,
  InterfaceName,
  PeerUnit,
  PinObservation,
  RelayUnit,
  Unit,
  UnitId,
} from '../src/model/dataplane.js';
import { KILL_SWITCH, unitIdOf, VIOLATIONS, type Violation } from '../src/model/dataplane.js';
import { VpndError } from '../src/model/errors.js';
import type { WireGuardPublicKey } from '../src/model/keys.js';
import type { Instant } from '../src/model/time.js';
import { checkTogether, checkUnit } from './validate.js';

/** What a peer of the twin has done; a test or a simulated network sets it. */
export interface PeerActivity {
  readonly endpoint: Endpoint | undefined;
  readonly lastHandshake: Instant | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
}

/** The data plane of a machine that does not exist, and the handles of whoever plays its kernel and its network. */
export interface MemoryDataPlane extends DataPlane {
  /** The whole state as text, one line each, sorted: two equal states print the same. */
  print(): string;
  units(): readonly Unit[];
  unit(id: UnitId): Unit | undefined;
  /** A handshake with a peer came through; no effect where the peer is not there. */
  setHandshake(device: InterfaceName, key: WireGuardPublicKey, at: Instant): void;
  /** Bytes, endpoint and handshake of a peer. */
  setActivity(device: InterfaceName, key: WireGuardPublicKey, activity: Partial<PeerActivity>): void;
  /** A packet of a relay port's peer came in; false where its address is not vouched for, and it was dropped. */
  learn(port: Port, from: Endpoint): boolean;
  /** Where a relay port's peer was last seen. */
  learned(port: Port): Endpoint | undefined;
  /** What `traffic` answers from now on; until then a device has carried nothing. */
  setTraffic(device: InterfaceName, traffic: DeviceTraffic): void;
  /** Packets came from one end of a device's pin or the other; forgotten when the pin changes. */
  countPinned(device: InterfaceName, more: Partial<PinPackets>): void;
  /** Addresses whose connections have been reset, in order. */
  resets(): readonly IpAddress[];
  /** What `observeEgress` answers from now on, added to what it did. */
  countRefused(kind: Violation, packets: number): void;
  countCarried(fromClients: number, toClients: number): void;
  setUplinks(uplinks: { readonly ipv4: boolean; readonly ipv6: boolean }): void;
  /** The local addresses of the connections that are open now, one for each. */
  setConnections(from: readonly IpAddress[]): void;
  /** Somebody else removes a unit behind vpnd's back. */
  vandalise(id: UnitId): void;
  /** The next `apply` or `reconcile` is rejected with this and changes nothing. */
  failNext(error: VpndError): void;
}

export type PinPackets = Omit<PinObservation, 'device'>;

const NO_TRAFFIC: DeviceTraffic = { rxPackets: 0, txPackets: 0 };
const NO_EGRESS: EgressObservation = {
  refused: Object.fromEntries(VIOLATIONS.map((kind) => [kind, 0])) as Record<Violation, number>,
  fromClients: 0,
  toClients: 0,
  onLink: [],
  special: [],
};
const NO_PACKETS: PinPackets = { fromPackets: 0, toPackets: 0 };
const QUIET: PeerActivity = { endpoint: undefined, lastHandshake: undefined, rxBytes: 0, txBytes: 0 };

export function memoryDataPlane(): MemoryDataPlane {
  return new Memory();
}

/** By the name that sits beside `openLinuxDataPlane`. */
export const openMemoryDataPlane = memoryDataPlane;

class Memory implements MemoryDataPlane {
  readonly engine = 'memory';
  /** Only ever replaced as a whole, so that a change that fails halfway leaves nothing. */
  #units: ReadonlyMap<UnitId, Unit> = new Map();
  readonly #activity = new Map<UnitId, PeerActivity>();
  readonly #learned = new Map<Port, Endpoint>();
  readonly #traffic = new Map<InterfaceName, DeviceTraffic>();
  readonly #pinned = new Map<InterfaceName, PinPackets>();
  readonly #resets: IpAddress[] = [];
  #uplinks = { ipv4: true, ipv6: true };
  #egress: EgressObservation = NO_EGRESS;
  #connections: readonly IpAddress[] = [];
  #failure: VpndError | undefined;
  #closed = false;

  async apply(change: UnitChange): Promise<void> {
    this.#enter();
    const next = new Map(this.#units);
    for (const id of change.remove ?? []) removeUnit(next, id);
    for (const unit of change.put ?? []) {
      checkUnit(unit);
      next.set(unitIdOf(unit), unit);
    }
    checkTogether(next, change.put ?? [], () => false);
    this.#become(next);
  }

  async reconcile(desired: readonly Unit[]): Promise<Reconciliation> {
    this.#enter();
    for (const unit of desired) checkUnit(unit);
    const wanted = new Map(desired.map((unit) => [unitIdOf(unit), unit]));
    checkTogether(wanted, desired, () => false);
    const repaired = [...wanted].filter(([id, unit]) => !sameUnit(this.#units.get(id), unit)).map(([id]) => id);
    const removed = [...this.#units].filter(([id]) => !wanted.has(id)).map(([, unit]) => line(unit));
    this.#become(wanted);
    return { repaired, removed };
  }

  async observePeers() {
    return [...this.#units.values()]
      .filter((unit) => unit.kind === 'peer')
      .map((unit) => ({ device: unit.device, publicKey: unit.publicKey, ...this.#activityOf(unit) }));
  }

  async observeRelays() {
    return [...this.#units.values()]
      .filter((unit) => unit.kind === 'relay')
      .map((unit) => ({ port: unit.port, learned: this.#learned.get(unit.port) }));
  }

  traffic(device: InterfaceName): DeviceTraffic | undefined {
    if (!this.#units.has(`device/${device}` as UnitId)) return undefined;
    return this.#traffic.get(device) ?? NO_TRAFFIC;
  }

  async observePins(): Promise<readonly PinObservation[]> {
    return [...this.#units.values()].flatMap((unit) =>
      unit.kind === 'full-tunnel' && unit.pin !== undefined
        ? [{ device: unit.device, ...(this.#pinned.get(unit.device) ?? NO_PACKETS) }]
        : [],
    );
  }

  async resetConnections(from: readonly IpAddress[]): Promise<void> {
    this.#resets.push(...from);
  }

  async openConnections(from: readonly IpAddress[]): Promise<number> {
    return this.#connections.filter((ip) => from.includes(ip)).length;
  }

  setConnections(from: readonly IpAddress[]): void {
    this.#connections = from;
  }

  async uplinks() {
    return this.#uplinks;
  }

  lockedDown(): boolean {
    const unit = this.#units.get(KILL_SWITCH);
    return unit?.kind === 'kill-switch' && unit.persist;
  }

  excludedPrograms(): number | undefined {
    return undefined;
  }

  async inventory(): Promise<readonly string[]> {
    return [...this.#units.values()].map(line).sort();
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  print(): string {
    const lines = [...this.#units].map(([id, unit]) => {
      const activity = unit.kind === 'peer' ? this.#activity.get(id) : undefined;
      const learned = unit.kind === 'relay' ? this.#learned.get(unit.port) : undefined;
      return [
        line(unit),
        ...(activity?.lastHandshake === undefined ? [] : [`handshake ${activity.lastHandshake}`]),
        ...(activity?.endpoint === undefined ? [] : [`at ${formatHostPort(activity.endpoint)}`]),
        ...(learned === undefined ? [] : [`learned ${formatHostPort(learned)}`]),
      ].join(', ');
    });
    return lines.sort().join('\n');
  }

  units(): readonly Unit[] {
    return [...this.#units.values()];
  }

  unit(id: UnitId): Unit | undefined {
    return this.#units.get(id);
  }

  setHandshake(device: InterfaceName, key: WireGuardPublicKey, at: Instant): void {
    this.setActivity(device, key, { lastHandshake: at });
  }

  setActivity(device: InterfaceName, key: WireGuardPublicKey, activity: Partial<PeerActivity>): void {
    const id = `peer/${device}/${key}` as UnitId;
    const unit = this.#units.get(id);
    if (unit?.kind === 'peer') this.#activity.set(id, { ...this.#activityOf(unit), ...activity });
  }

  learn(port: Port, from: Endpoint): boolean {
    const unit = this.#units.get(`relay/${port}` as UnitId);
    if (unit?.kind !== 'relay' || !unit.vouched.includes(from.ip)) return false;
    this.#learned.set(port, from);
    return true;
  }

  learned(port: Port): Endpoint | undefined {
    return this.#learned.get(port);
  }

  setTraffic(device: InterfaceName, traffic: DeviceTraffic): void {
    this.#traffic.set(device, traffic);
  }

  countPinned(device: InterfaceName, more: Partial<PinPackets>): void {
    const { fromPackets, toPackets } = this.#pinned.get(device) ?? NO_PACKETS;
    this.#pinned.set(device, {
      fromPackets: fromPackets + (more.fromPackets ?? 0),
      toPackets: toPackets + (more.toPackets ?? 0),
    });
  }

  resets(): readonly IpAddress[] {
    return [...this.#resets];
  }

  async observeEgress() {
    return this.#egress;
  }

  countRefused(kind: Violation, packets: number): void {
    const { refused } = this.#egress;
    this.#egress = { ...this.#egress, refused: { ...refused, [kind]: refused[kind] + packets } };
  }

  countCarried(fromClients: number, toClients: number): void {
    const before = this.#egress;
    this.#egress = {
      ...before,
      fromClients: before.fromClients + fromClients,
      toClients: before.toClients + toClients,
    };
  }

  setUplinks(uplinks: { readonly ipv4: boolean; readonly ipv6: boolean }): void {
    this.#uplinks = uplinks;
  }

  vandalise(id: UnitId): void {
    const next = new Map(this.#units);
    removeUnit(next, id);
    this.#become(next);
  }

  failNext(error: VpndError): void {
    this.#failure = error;
  }

  #enter(): void {
    if (this.#closed) throw new VpndError('closed', 'the data plane is closed');
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  #become(next: ReadonlyMap<UnitId, Unit>): void {
    for (const [id, unit] of next) {
      const before = this.#units.get(id);
      // As WireGuard does: an endpoint that is put anew replaces the one that was learned by roaming.
      if (unit.kind === 'peer' && before?.kind === 'peer' && unit.endpoint !== undefined) {
        const moved = !sameEndpoint(unit.endpoint, before.endpoint);
        if (moved) this.#activity.set(id, { ...this.#activityOf(unit), endpoint: unit.endpoint });
      }
      if (unit.kind === 'full-tunnel' && !samePin(unit.pin, before)) this.#pinned.delete(unit.device);
      if (unit.kind !== 'relay') continue;
      if (before === undefined && unit.learned !== undefined) this.#learned.set(unit.port, unit.learned);
      const learned = this.#learned.get(unit.port);
      if (learned !== undefined && !unit.vouched.includes(learned.ip)) this.#learned.delete(unit.port);
    }
    for (const [id, unit] of this.#units) {
      if (next.has(id)) continue;
      this.#activity.delete(id);
      if (unit.kind === 'device') this.#traffic.delete(unit.name);
      if (unit.kind === 'full-tunnel') this.#pinned.delete(unit.device);
      if (unit.kind === 'relay') this.#learned.delete(unit.port);
    }
    this.#units = next;
  }

  #activityOf(unit: PeerUnit): PeerActivity {
    return this.#activity.get(unitIdOf(unit)) ?? { ...QUIET, endpoint: unit.endpoint };
  }
}

/** A device takes its peers along, as it does in the kernel. */
function removeUnit(units: Map<UnitId, Unit>, id: UnitId): void {
  const unit = units.get(id);
  units.delete(id);
  if (unit?.kind !== 'device') return;
  for (const key of units.keys()) if (key.startsWith(`peer/${unit.name}/`)) units.delete(key);
}

/** Nothing secret in it: private and pre-shared keys count for equality, and are not printed. */
function line(unit: Unit): string {
  switch (unit.kind) {
    case 'device':
      return `device ${unit.name} port ${unit.listenPort ?? 'any'} mtu ${unit.mtu} ${unit.addresses.join(' ')}`.trimEnd();
    case 'peer':
      return [
        `peer ${unit.device} ${unit.publicKey} allowed ${unit.allowedIps.join(' ') || 'nothing'}`,
        ...(unit.endpoint === undefined ? [] : [`endpoint ${formatHostPort(unit.endpoint)}`]),
        ...(unit.keepalive === 0 ? [] : [`keepalive ${unit.keepalive}`]),
        ...(unit.presharedKey === undefined ? [] : ['pre-shared key']),
      ].join(' ');
    case 'relay':
      return `relay ${unit.localIp} ${unit.port} vouched ${addresses(unit.vouched)} next ${nextText(unit)}`;
    case 'egress':
      return `egress ${unit.device} from ${unit.sources.join(' ')} gateways ${addresses(unit.gateways)}${unit.ipv6 ? '' : ' without IPv6'}${refusals(unit)}`;
    case 'shaper':
      return `shaper ${unit.device} ${unit.rate} bit/s, ${unit.sessionRate} bit/s each`;
    case 'full-tunnel':
      return [
        `full-tunnel ${unit.device} ${unit.use} table ${unit.table} from ${addresses(unit.sources)}`,
        `IPv6 ${unit.ipv6} exempt ${exempt(unit)}`,
        ...(unit.pin === undefined ? [] : [`pin ${formatHostPort(unit.pin.from)} to ${formatHostPort(unit.pin.to)}`]),
      ].join(' ');
    case 'kill-switch':
      return [
        `kill-switch but ${unit.devices.join(' ')}`,
        `endpoints ${unit.endpoints.map(formatHostPort).join(' ') || 'none'}`,
        `own ${exempt({ exempt: unit.own })}`,
        ...(unit.exclude.length === 0 ? [] : [`excluded ${unit.exclude.join(' ')}`]),
        ...(unit.lan ? ['with the LAN'] : []),
        ...(unit.persist ? ['kept on file'] : []),
      ].join(', ');
  }
}

const refusals = ({ forbidden, forbidOnLink, limits }: EgressUnit): string => {
  const { newPerSession, newInAll, openPerSession } = limits;
  const never = [...(forbidOnLink ? ['its own networks'] : []), ...forbidden].join(' ');
  return `${never === '' ? '' : ` never to ${never}`} connections ${newPerSession}/s ${newInAll}/s in all ${openPerSession} open`;
};
const addresses = (list: readonly IpAddress[]): string => list.join(' ') || 'nothing';
const nextText = ({ next }: RelayUnit): string =>
  next.kind === 'hop' ? formatHostPort(next.endpoint) : `port ${next.port}`;
const exempt = (unit: Pick<FullTunnelUnit, 'exempt'>): string =>
  unit.exempt.map(({ protocol, endpoint }) => `${protocol} ${formatHostPort(endpoint)}`).join(' ') || 'nothing';

const samePin = (pin: EndpointPin | undefined, before: Unit | undefined): boolean =>
  JSON.stringify(pin) === JSON.stringify(before?.kind === 'full-tunnel' ? before.pin : undefined);

const sameUnit = (a: Unit | undefined, b: Unit): boolean =>
  a !== undefined && JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));

/** Units are data; the order of their fields means nothing. */
const sorted = (unit: Unit): [string, unknown][] => Object.entries(unit).sort(([a], [b]) => (a < b ? -1 : 1));
