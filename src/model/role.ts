import { err, ok, type Result } from './result.js';

export type Role = 'base' | 'supernode' | 'exit' | 'client';
/** Roles that enrol with base. */
export type MemberRole = Exclude<Role, 'base'>;
/** `auto`: direct where it works. `private`: never, always two supernodes. `direct`: as auto, and tried again and again. */
export type Privacy = 'auto' | 'private' | 'direct';
/**
 * Pre-shared keys from ML-KEM: `require` has no tunnel without one, `prefer` takes one where the other side takes part,
 * `off` neither offers nor takes any.
 */
export type PostQuantum = 'require' | 'prefer' | 'off';
/** How a session's packets travel. */
export type Path = 'direct' | 'relay' | 'relay2';

declare const region: unique symbol;
declare const country: unique symbol;
/** A short word operators choose, `eu` or `us-east-1`: lower-case letters, digits and hyphens, at most 32. */
export type Region = string & { readonly [region]: true };
/** ISO 3166-1 alpha-2 in upper case. */
export type Country = string & { readonly [country]: true };

export function parseRegion(text: string): Result<Region, 'bad-region'> {
  return /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/.test(text) ? ok(text as Region) : err('bad-region');
}

export function parseCountry(text: string): Result<Country, 'bad-country'> {
  const upper = text.toUpperCase();
  return /^[A-Z]{2}$/.test(upper) ? ok(upper as Country) : err('bad-country');
}
