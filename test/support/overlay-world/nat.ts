import type { Clock } from '../../../src/core/ports/clock.js';
import type { Random } from '../../../src/core/ports/random.js';
import { type Endpoint, formatHostPort, type Port } from '../../../src/model/address.js';
import { type Millis, minutes, seconds } from '../../../src/model/time.js';

/** What a mapping or a filter asks of the other end: nothing, its address, its address and port (RFC 4787, 4.1 and 5). */
export type Dependence = 'endpoint-independent' | 'address-dependent' | 'address-and-port-dependent';

/** One router's behaviour in the words of RFC 4787. */
export interface NatBehaviour {
  readonly mapping: Dependence;
  readonly filtering: Dependence;
  /** Keeps the inner port where it is free (4.2.1). */
  readonly preservesPorts: boolean;
  /** Carries packets between two machines behind it by their outer addresses (REQ-9). */
  readonly hairpins: boolean;
  /** Of a mapping that nothing goes out by: REQ-5 asks for two minutes at least, and not every router knows. */
  readonly life: Millis;
}

/**
 * The routers that homes sit behind; the lab's names where it has one.
 *
 * - `none`: a public address, and strangers get through.
 * - `port-preserving`: most homes. `random`: "symmetric", carriers and companies.
 */
export type NatKind = 'none' | 'full-cone' | 'address-restricted' | 'port-preserving' | 'random';

const usual = { preservesPorts: true, hairpins: false, life: minutes(2) };
export const NATS: Readonly<Record<Exclude<NatKind, 'none'>, NatBehaviour>> = {
  'full-cone': { ...usual, mapping: 'endpoint-independent', filtering: 'endpoint-independent' },
  'address-restricted': { ...usual, mapping: 'endpoint-independent', filtering: 'address-dependent' },
  'port-preserving': { ...usual, mapping: 'endpoint-independent', filtering: 'address-and-port-dependent' },
  random: {
    ...usual,
    mapping: 'address-and-port-dependent',
    filtering: 'address-and-port-dependent',
    preservesPorts: false,
  },
};
/** Less than two minutes, against REQ-5, and still more than the 25 s between keepalives. */
export const SHORT_MEMORY: Millis = seconds(35);

interface Mapping {
  readonly machine: string;
  readonly inside: number;
  readonly outside: number;
  /** Whom it was used for, and when last. */
  readonly used: Map<string, number>;
}

/** A router: where the UDP of those behind it seems to come from, and what gets in. */
export class Nat {
  readonly #mappings = new Map<string, Mapping>();
  readonly #behaviour: NatBehaviour | undefined;
  #preserves: boolean;

  constructor(
    readonly kind: NatKind | NatBehaviour,
    private readonly clock: Clock,
    private readonly random: Random,
  ) {
    this.#behaviour = kind === 'none' ? undefined : typeof kind === 'string' ? NATS[kind] : kind;
    this.#preserves = this.#behaviour?.preservesPorts ?? true;
  }

  get hairpins(): boolean {
    return this.#behaviour?.hairpins ?? true;
  }

  /** A datagram leaves: the port it seems to come from. `machine` tells those behind one router apart. */
  outbound(inside: number, to: Endpoint, machine = ''): Port {
    if (this.#behaviour === undefined) return inside as Port;
    const key = this.#key(inside, to, machine);
    const found = this.#live(key) ?? this.#open(inside, machine);
    found.used.set(formatHostPort(to), this.clock.monotonic());
    this.#mappings.set(key, found);
    return found.outside as Port;
  }

  /** A datagram comes to an outside port: the inside port of `machine` that it is for, if it is let in. */
  inbound(outside: number, from: Endpoint, machine = ''): Port | undefined {
    if (this.#behaviour === undefined) return outside as Port;
    for (const key of this.#mappings.keys()) {
      const mapping = this.#live(key);
      if (mapping?.outside === outside && mapping.machine === machine && this.#lets(mapping, from))
        return mapping.inside as Port;
    }
    return undefined;
  }

  /** What `outbound` would give, with nothing opened by asking; undefined where it cannot be told before. */
  peek(inside: number, to: Endpoint, machine = ''): Port | undefined {
    if (this.#behaviour === undefined) return inside as Port;
    return this.#live(this.#key(inside, to, machine))?.outside as Port | undefined;
  }

  /** The router starts anew: all it knew is forgotten, and every port maps elsewhere. */
  rebind(): void {
    this.#mappings.clear();
    this.#preserves = false;
  }

  #key(inside: number, to: Endpoint, machine: string): string {
    switch (this.#behaviour?.mapping) {
      case 'address-dependent':
        return `${machine} ${inside} ${to.ip}`;
      case 'address-and-port-dependent':
        return `${machine} ${inside} ${formatHostPort(to)}`;
      default:
        return `${machine} ${inside}`;
    }
  }

  #lets({ used }: Mapping, from: Endpoint): boolean {
    const since = this.clock.monotonic() - this.#life;
    const recent = (fits: (at: string) => boolean) => [...used].some(([at, when]) => when >= since && fits(at));
    switch (this.#behaviour?.filtering) {
      case 'address-dependent':
        return recent((at) => at.startsWith(`${from.ip}:`));
      case 'address-and-port-dependent':
        return recent((at) => at === formatHostPort(from));
      default:
        return true;
    }
  }

  get #life(): number {
    return this.#behaviour?.life ?? 0;
  }

  /** Only what goes out refreshes a mapping (REQ-6). */
  #live(key: string): Mapping | undefined {
    const found = this.#mappings.get(key);
    if (found === undefined) return undefined;
    if (Math.max(...found.used.values()) >= this.clock.monotonic() - this.#life) return found;
    this.#mappings.delete(key);
    return undefined;
  }

  #open(inside: number, machine: string): Mapping {
    const taken = new Set([...this.#mappings.values()].map((one) => one.outside));
    let outside = inside;
    while (!this.#preserves || taken.has(outside)) {
      outside = 20_000 + Math.floor(this.random.fraction() * 40_000);
      if (!taken.has(outside)) break;
    }
    return { machine, inside, outside, used: new Map() };
  }
}
