import type { Role } from '../model/role.js';
import type { Parse } from './values.js';

/** One setting: a flag, a variable, a key of the file and a paragraph of the documentation, from one declaration. */
export interface Option<T> {
  /** `pool-ipv4`: the flag is `--pool-ipv4`, the variable `VPND_POOL_IPV4`, the file's key `pool-ipv4`. */
  readonly name: string;
  /** What stands in help for the value, `<cidr>`; a switch needs none after its flag. */
  readonly value: string;
  readonly parse: Parse<T>;
  /** As text; undefined where leaving it out means something of its own, which `help` then says. */
  readonly default: string | undefined;
  /** One sentence without a full stop. */
  readonly help: string;
  readonly example: string;
  /** Given without a value it means `on`. */
  readonly switch: boolean;
  /** May be given several times, or comma-separated; an array in the file. */
  readonly many: boolean;
  /** Never repeated in an error; has a sibling that names a file, `--<name>-file`. */
  readonly secret: boolean;
}

interface Declaration<T> {
  readonly name: string;
  readonly value: string;
  readonly parse: Parse<T>;
  readonly help: string;
  readonly example: string;
  readonly switch?: boolean;
  readonly many?: boolean;
  readonly secret?: boolean;
}

/** A setting that always has a value. */
export const option = <T>(declaration: Declaration<T> & { readonly default: string }): Option<T> => ({
  switch: false,
  many: false,
  secret: false,
  ...declaration,
});

/** A setting that may be left out. */
export const optional = <T>(declaration: Declaration<T>): Option<T | undefined> => ({
  switch: false,
  many: false,
  secret: false,
  default: undefined,
  ...declaration,
});

export type OptionTable = Readonly<Record<string, Option<unknown>>>;
/** The values of a table's options. */
export type Values<T extends OptionTable> = { readonly [K in keyof T]: T[K] extends Option<infer V> ? V : never };

/** The key of the option that names a file which holds a secret option's value. */
export const secretFileKey = (key: string): string => `${key}File`;

export const flagOf = (o: Option<unknown>): string => `--${o.name}`;
export const variableOf = (o: Option<unknown>): string => `VPND_${o.name.toUpperCase().replaceAll('-', '_')}`;

export const ROLES: readonly Role[] = ['base', 'supernode', 'exit', 'client'];
export const aRole = (role: Role): string => (role === 'exit' ? 'an exit' : role === 'base' ? 'base' : `a ${role}`);
