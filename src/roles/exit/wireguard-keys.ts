import type { Clock } from '../../core/ports/clock.js';
import type { FactStore, SessionRecord } from '../../core/ports/store.js';
import { type Cidr, cidrAddress, hostCidr, type Port } from '../../model/address.js';
import type { Command, SetupExit } from '../../model/command.js';
import type { InterfaceName, Unit } from '../../model/dataplane.js';
import type { WireGuardKeyPair, WireGuardPublicKey } from '../../model/keys.js';
import type { Instant } from '../../model/time.js';
import { slotDevice } from '../common/slot-device.js';

const FACT = 'wireguard-keys';

/** A WireGuard key of an exit and the interface it is on. */
export interface ExitKey {
  readonly pair: WireGuardKeyPair;
  /** Two keys are in use at most, each on an interface of its own. */
  readonly slot: 0 | 1;
  readonly since: Instant;
  /** Listens on the port that was configured, which only one interface can have. */
  readonly hasPort: boolean;
}

/** A key that new sessions are not given any more. */
export interface RetiringKey extends ExitKey {
  readonly retiringSince: Instant;
  /** Its sessions are asked to move at once, not after a while. */
  readonly soon: boolean;
}

interface Kept {
  readonly current: ExitKey;
  readonly retiring?: RetiringKey | undefined;
}

export interface WireGuardKeysDeps {
  readonly facts: FactStore;
  readonly clock: Clock;
  readonly interface: InterfaceName;
  readonly port: Port | undefined;
  /** The key of the first start, from its file. */
  readonly first: () => WireGuardKeyPair;
  /** Keeps the current key in that file as well, so that it outlives the database. */
  readonly keep: (pair: WireGuardKeyPair) => void;
}

/**
 * The WireGuard keys of an exit: the one that new sessions are given, and the one before for as long as it has sessions.
 * WireGuard ends all tunnels of an interface whose private key changes, so each key has its own interface.
 */
export class WireGuardKeys {
  #kept: Kept;
  /** The routes of its sessions are being laid, before the network is another interface's. */
  #parting = false;

  constructor(private readonly deps: WireGuardKeysDeps) {
    const { facts, clock, port } = deps;
    const kept = facts.get<Kept>(FACT);
    this.#kept = kept ?? {
      current: { pair: deps.first(), slot: 0, since: clock.now(), hasPort: port !== undefined },
    };
    try {
      if (kept === undefined) facts.put(FACT, this.#kept);
    } catch {
      // Over a full disk an exit comes back all the same: the file has the key, whose age is counted from now.
    }
    // A crash may have come between the two.
    deps.keep(this.current.pair);
  }

  get current(): ExitKey {
    return this.#kept.current;
  }

  get retiring(): RetiringKey | undefined {
    return this.#kept.retiring;
  }

  /** Whether the configured port is another key's: clients do not reach the current one there. */
  get portIsTaken(): boolean {
    return this.deps.port !== undefined && !this.current.hasPort;
  }

  /** The key of a session: the one that its record names, and before it was named the oldest. */
  of(record: SessionRecord): ExitKey {
    const { current, retiring } = this.#kept;
    const named = setupOf(record)?.exitKey;
    return retiring === undefined || named === current.pair.publicKey ? current : retiring;
  }

  isRetiring(record: SessionRecord): boolean {
    return this.retiring !== undefined && this.of(record) === this.retiring;
  }

  device({ slot }: ExitKey): InterfaceName {
    return slotDevice(this.deps.interface, slot);
  }

  /** A session keeps the key that it began with. */
  prepare({ desired }: Command, next: SessionRecord, before: SessionRecord | undefined): SessionRecord {
    if (desired.kind !== 'setup-exit') return next;
    const standing = before === undefined ? undefined : setupOf(before);
    const isSame = before !== undefined && standing?.clientKey === desired.clientKey;
    const exitKey = (isSame ? this.of(before) : this.current).pair.publicKey;
    return { ...next, desired: next.desired.map((one) => (one.kind === 'setup-exit' ? { ...one, exitKey } : one)) };
  }

  /**
   * Both interfaces answer on the gateway's address, and the inner network is routed to the current one's; `units` makes
   * what one key needs of its own. The sessions of a retiring key are routed one by one.
   */
  fixed(
    units: (key: ExitKey, device: InterfaceName, port: Port | undefined) => readonly Unit[],
    sessions: () => readonly SessionRecord[],
  ): readonly Unit[] {
    const { current, retiring } = this.#kept;
    const of = (key: ExitKey) => units(key, this.device(key), key.hasPort ? this.deps.port : undefined);
    if (this.#parting) return routed(of(current), hostsOf(sessions()), true);
    if (retiring === undefined) return of(current);
    const left = sessions().filter((one) => this.isRetiring(one));
    return [...routed(of(retiring), hostsOf(left), false), ...of(current)];
  }

  /** From now on `fixed` has a route for each session. */
  part(): void {
    this.#parting = true;
  }

  /** New sessions get this key. Durable when it returns; throws what the store throws, and all is as it was. */
  begin(pair: WireGuardKeyPair, soon: boolean): void {
    const { current } = this.#kept;
    const now = this.deps.clock.now();
    const next: ExitKey = {
      pair,
      slot: current.slot === 0 ? 1 : 0,
      since: now,
      hasPort: this.deps.port !== undefined && !current.hasPort,
    };
    this.#parting = false;
    this.#become({ current: next, retiring: { ...current, retiringSince: now, soon } });
  }

  /** The new key could not be brought up: the one before is the current one again. */
  takeBack(): void {
    const { retiring } = this.#kept;
    this.#parting = false;
    if (retiring === undefined) return;
    const { retiringSince: _, soon: __, ...current } = retiring;
    this.#become({ current });
  }

  /** Nothing is left of the retiring key but on the disk, which is to be seen to. */
  forget(): void {
    this.#become({ current: this.current });
  }

  #become(kept: Kept): void {
    this.deps.facts.put(FACT, kept);
    this.#kept = kept;
    this.deps.keep(kept.current.pair);
  }
}

/** The key that a session has at this exit, as its record names it. */
export const exitKeyOf = (record: SessionRecord): WireGuardPublicKey | undefined => setupOf(record)?.exitKey;

const setupOf = (record: SessionRecord): SetupExit | undefined =>
  record.desired.find((one) => one.kind === 'setup-exit');

const hostsOf = (sessions: readonly SessionRecord[]): readonly Cidr[] =>
  sessions.flatMap((record) => {
    const inner = setupOf(record)?.inner;
    return inner === undefined ? [] : [hostCidr(inner.ipv4), hostCidr(inner.ipv6)];
  });

/**
 * These units with a route for each host; unless `network`, the inner network itself is not routed to them, nor do their
 * addresses bring it along.
 */
const routed = (units: readonly Unit[], hosts: readonly Cidr[], network: boolean): readonly Unit[] =>
  units.map((unit) => {
    if (unit.kind === 'egress') return { ...unit, routes: network ? [...unit.sources, ...hosts] : hosts };
    if (unit.kind !== 'device' || network) return unit;
    return { ...unit, addresses: unit.addresses.map((address) => hostCidr(cidrAddress(address))) };
  });
