import type { BaseConfig } from '../../config/types.js';
import { type Cidr, familyOf, networkSize, nthAddress, prefixLength, subnet } from '../../model/address.js';
import { VpndError } from '../../model/errors.js';
import type { AddressPlan } from '../../model/messages.js';

const IPV6_BLOCK_LENGTH = 64;
/** As many as fit into an AuthResponse. */
const MOST_BLOCKS = 64;

type Pools = Pick<BaseConfig, 'poolIpv4' | 'poolIpv6' | 'blockLength'>;

/**
 * How the overlay's inner addresses are cut up: block n is the n-th /blockLength of the IPv4 pool and the n-th /64 of
 * the IPv6 pool. The first address of each pool is the gateway that every exit answers on, so block 0 is never leased.
 */
export class AddressBlocks {
  /** Blocks that can be leased; the store counts them from 0. */
  readonly count: number;
  readonly #pools: Pools;

  /** Throws `bad-config` when the pools hold no block that could be leased. */
  constructor(pools: Pools) {
    const { poolIpv4, poolIpv6, blockLength } = pools;
    if (familyOf(poolIpv4) !== 4 || familyOf(poolIpv6) !== 6)
      throw new VpndError('bad-config', 'pool-ipv4 and pool-ipv6 are an IPv4 and an IPv6 network');
    const ipv4 = 2 ** (blockLength - prefixLength(poolIpv4));
    const ipv6 = 2 ** (IPV6_BLOCK_LENGTH - prefixLength(poolIpv6));
    this.count = Math.floor(Math.min(ipv4, ipv6)) - 1;
    if (this.count < 1 || blockLength > 30)
      throw new VpndError(
        'bad-config',
        `${poolIpv4} and ${poolIpv6} hold no block for a supernode beside the gateway's: choose larger pools, or a --block-length between the pool's and 30`,
      );
    this.#pools = pools;
  }

  /** How many blocks hold the sessions of a supernode with this capacity. */
  needed(sessionCapacity: number): number {
    const { poolIpv4, blockLength } = this.#pools;
    // The first and the last address of a block go to nobody.
    const perBlock = networkSize(subnet(poolIpv4, blockLength, 0)) - 2;
    return Math.max(1, Math.min(MOST_BLOCKS, Math.ceil(sessionCapacity / perBlock)));
  }

  /** What a supernode is told of the blocks it holds. */
  plan(leased: readonly number[]): AddressPlan {
    const { poolIpv4, poolIpv6, blockLength } = this.#pools;
    const blocks = (pool: Cidr, length: number) =>
      leased.slice(0, MOST_BLOCKS).map((index) => subnet(pool, length, index + 1));
    return {
      blocksIpv4: blocks(poolIpv4, blockLength),
      blocksIpv6: blocks(poolIpv6, IPV6_BLOCK_LENGTH),
      gatewayIpv4: nthAddress(poolIpv4, 1),
      gatewayIpv6: nthAddress(poolIpv6, 1),
      poolIpv4,
      poolIpv6,
    };
  }
}
