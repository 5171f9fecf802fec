import { type Cidr, contains, type IpAddress, networkSize, nthAddress } from '../model/address.js';
import type { AddressPlan } from '../model/messages.js';
import type { InnerAddresses } from '../model/offer.js';
import type { Instant, Millis } from '../model/time.js';
import { SlotPool } from './pool.js';

/**
 * Inner addresses of a supernode's sessions, out of the blocks base leased to it: the n-th address of an IPv4 block
 * goes with the n-th of the IPv6 block of the same position.
 */
export class InnerAddressPool {
  readonly #pool: SlotPool;
  #plan: AddressPlan | undefined;

  constructor(rest: Millis) {
    this.#pool = new SlotPool(0, rest);
  }

  /** Blocks in the order base lists them; base only ever appends. */
  usePlan(plan: AddressPlan): void {
    this.#plan = plan;
    this.#pool.grow(plan.blocksIpv4.reduce((n, block) => n + usable(block), 0));
  }

  take(now: Instant): InnerAddresses | undefined {
    const slot = this.#pool.take(now);
    return slot === undefined || this.#plan === undefined ? undefined : this.#addresses(this.#plan, slot);
  }

  claim(address: IpAddress): boolean {
    const slot = this.#slotOf(address);
    return slot !== undefined && this.#pool.claim(slot);
  }

  give(address: IpAddress, now: Instant): void {
    const slot = this.#slotOf(address);
    if (slot !== undefined) this.#pool.give(slot, now);
  }

  /** IPv4 addresses that rest, their IPv6 ones with them, and until when. */
  resting(now: Instant): readonly (readonly [IpAddress, Instant])[] {
    const plan = this.#plan;
    if (plan === undefined) return [];
    return this.#pool.resting(now).map(([slot, until]) => [this.#addresses(plan, slot).ipv4, until]);
  }

  /** After a restart: an address that was given back before it. */
  rest(address: IpAddress, until: Instant): void {
    const slot = this.#slotOf(address);
    if (slot !== undefined) this.#pool.rest(slot, until);
  }

  #addresses(plan: AddressPlan, slot: number): InnerAddresses {
    let rest = slot;
    for (const [i, block] of plan.blocksIpv4.entries()) {
      if (rest < usable(block)) {
        return {
          ipv4: nthAddress(block, rest + 1),
          ipv6: nthAddress(plan.blocksIpv6[i] as Cidr, rest + 1),
          gatewayIpv4: plan.gatewayIpv4,
          gatewayIpv6: plan.gatewayIpv6,
        };
      }
      rest -= usable(block);
    }
    throw new RangeError(`no block holds slot ${slot}`);
  }

  #slotOf(address: IpAddress): number | undefined {
    let base = 0;
    for (const block of this.#plan?.blocksIpv4 ?? []) {
      if (contains(block, address)) return base + offsetIn(block, address) - 1;
      base += usable(block);
    }
    return undefined;
  }
}

/** Without the first and the last address, which people and routers take for the network's and its broadcast. */
const usable = (block: Cidr): number => networkSize(block) - 2;

const number = (ip: string): number => ip.split('.').reduce((n, part) => n * 256 + Number(part), 0);
const offsetIn = (block: Cidr, address: IpAddress): number => number(address) - number(nthAddress(block, 0));
