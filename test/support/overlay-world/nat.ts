import type { Clock } from '../../../src/core/ports/clock.js';
import type { Random } from '../../../src/core/ports/random.js';
import { type Endpoint, formatHostPort, type Port } from '../../../src/model/address.js';

/**
 * The routers that homes sit behind, by RFC 4787's mapping and filtering behaviours; the lab's names where it has one.
 *
 * - `none`: a public address, and strangers get through.
 * - `full-cone`: endpoint-independent mapping and filtering.
 * - `address-restricted`: endpoint-independent mapping, address-dependent filtering.
 * - `port-preserving`: endpoint-independent mapping that keeps the inner port where it is free, address- and
 *   port-dependent filtering: most homes.
 * - `random`: address- and port-dependent mapping and filtering ("symmetric"): carriers and companies.
 */
export type NatKind = 'none' | 'full-cone' | 'address-restricted' | 'port-preserving' | 'random';

interface Mapping {
  readonly inside: number;
  readonly outside: number;
  /** Whom it was used for, and when last. */
  readonly used: Map<string, number>;
}

/** RFC 4787 REQ-5: no less than two minutes, and no more than that here. Only what goes out refreshes it (REQ-6). */
const LIFE = 120_000;

/** One machine's router: where its UDP seems to come from, and what gets in. */
export class Nat {
  readonly #mappings = new Map<string, Mapping>();
  #preserves: boolean;

  constructor(
    readonly kind: NatKind,
    private readonly clock: Clock,
    private readonly random: Random,
  ) {
    this.#preserves = kind !== 'random';
  }

  /** A datagram leaves: the port it seems to come from. */
  outbound(inside: number, to: Endpoint): Port {
    if (this.kind === 'none') return inside as Port;
    const key = this.#key(inside, to);
    const found = this.#live(key) ?? this.#open(inside);
    found.used.set(formatHostPort(to), this.clock.monotonic());
    this.#mappings.set(key, found);
    return found.outside as Port;
  }

  /** A datagram comes to an outside port: the inside port it is for, if it is let in. */
  inbound(outside: number, from: Endpoint): Port | undefined {
    if (this.kind === 'none') return outside as Port;
    for (const key of this.#mappings.keys()) {
      const mapping = this.#live(key);
      if (mapping?.outside === outside && this.#lets(mapping, from)) return mapping.inside as Port;
    }
    return undefined;
  }

  /** What `outbound` would give, with nothing opened by asking; undefined where it cannot be told before. */
  peek(inside: number, to: Endpoint): Port | undefined {
    return this.kind === 'none' ? (inside as Port) : (this.#live(this.#key(inside, to))?.outside as Port | undefined);
  }

  /** The router starts anew: all it knew is forgotten, and every port maps elsewhere. */
  rebind(): void {
    this.#mappings.clear();
    this.#preserves = false;
  }

  #key(inside: number, to: Endpoint): string {
    return this.kind === 'random' ? `${inside} ${formatHostPort(to)}` : String(inside);
  }

  #lets({ used }: Mapping, from: Endpoint): boolean {
    const since = this.clock.monotonic() - LIFE;
    const recent = (fits: (at: string) => boolean) => [...used].some(([at, when]) => when >= since && fits(at));
    switch (this.kind) {
      case 'none':
      case 'full-cone':
        return true;
      case 'address-restricted':
        return recent((at) => at.startsWith(`${from.ip}:`));
      case 'port-preserving':
      case 'random':
        return recent((at) => at === formatHostPort(from));
    }
  }

  #live(key: string): Mapping | undefined {
    const found = this.#mappings.get(key);
    if (found === undefined) return undefined;
    if (Math.max(...found.used.values()) >= this.clock.monotonic() - LIFE) return found;
    this.#mappings.delete(key);
    return undefined;
  }

  #open(inside: number): Mapping {
    const taken = new Set([...this.#mappings.values()].map((one) => one.outside));
    let outside = inside;
    while (!this.#preserves || taken.has(outside)) {
      outside = 20_000 + Math.floor(this.random.fraction() * 40_000);
      if (!taken.has(outside)) break;
    }
    return { inside, outside, used: new Map() };
  }
}
