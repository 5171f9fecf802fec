import { parse as parseToml, TomlError } from 'smol-toml';
import { VpndError } from '../model/errors.js';
import { err, ok, type Result } from '../model/result.js';
import type { Role } from '../model/role.js';
import { aRole, flagOf, type OptionTable, ROLES, variableOf } from './option.js';
import { OPTIONS } from './options.js';
import { closest } from './suggest.js';

/** Everything a configuration is made from; nothing else is read. */
export interface RawConfig {
  /** Values of flags by option name (`pool-ipv4`), as typed. */
  readonly flags: Readonly<Record<string, string>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The configuration file, when there is one. */
  readonly file: { readonly path: string; readonly text: string } | undefined;
  /** The secret that a file holds; throws SecretFileError, or what says why it cannot be read. */
  readonly read: (path: string) => string;
  /** Values of the secret options by name, where another process has found them already; nothing else is looked at then. */
  readonly secrets?: Readonly<Record<string, string>>;
}

/** A setting's text and where it came from; `rank` is higher for what overrides. */
export interface Given {
  readonly text: string;
  /** "--lease (from VPND_LEASE)". */
  readonly where: string;
  readonly rank: 0 | 1 | 2 | 3;
}

/** Variables that are no option of a daemon. */
const OTHER_VARIABLES = new Set(['VPND_CONFIG']);

const refuse = (message: string): Result<never, VpndError> => err(new VpndError('bad-config', message));

/** The text each option of the role has: flag before variable before file before default. Errors: `bad-config`. */
export function gather(role: Role, raw: RawConfig): Result<ReadonlyMap<string, Given>, VpndError> {
  const table: OptionTable = OPTIONS[role];
  const file = fileValues(role, raw.file);
  if (!file.ok) return file;
  const strange = unknownVariable(role, raw.env);
  if (strange !== undefined) return refuse(strange);

  const given = new Map<string, Given>();
  for (const [key, option] of Object.entries(table)) {
    const flag = flagOf(option);
    const variable = variableOf(option);
    const fromFlag = raw.flags[option.name];
    const fromEnv = raw.env[variable];
    const fromFile = file.value.get(option.name);
    if (fromFlag !== undefined) given.set(key, { text: fromFlag, where: flag, rank: 3 });
    else if (fromEnv !== undefined) given.set(key, { text: fromEnv, where: `${flag} (from ${variable})`, rank: 2 });
    else if (fromFile !== undefined) {
      given.set(key, { text: fromFile, where: `${flag} (from '${option.name}' in ${raw.file?.path})`, rank: 1 });
    } else if (option.default !== undefined) given.set(key, { text: option.default, where: flag, rank: 0 });
  }
  return ok(given);
}

function unknownVariable(role: Role, env: RawConfig['env']): string | undefined {
  const known = new Set([...OTHER_VARIABLES, ...Object.values(OPTIONS[role]).map(variableOf)]);
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith('VPND_') || value === undefined || known.has(name)) continue;
    return `${name} is not a setting of ${aRole(role)}${hint(name, [...known], ownersOf(name, variableOf, role))}`;
  }
  return undefined;
}

function fileValues(role: Role, file: RawConfig['file']): Result<ReadonlyMap<string, string>, VpndError> {
  const values = new Map<string, string>();
  if (file === undefined) return ok(values);
  let parsed: Record<string, unknown>;
  try {
    parsed = parseToml(file.text);
  } catch (thrown) {
    if (!(thrown instanceof TomlError)) throw thrown;
    // The parser quotes the line, which may hold a token; its place is enough.
    return refuse(`${file.path} is not TOML: line ${thrown.line}, column ${thrown.column}`);
  }
  const options = Object.values(OPTIONS[role]);
  const byName = new Map(options.map((option) => [option.name, option]));
  for (const [name, value] of Object.entries(parsed)) {
    const option = byName.get(name);
    if (option === undefined) {
      const owners = ownersOf(name, (o) => o.name, role);
      return refuse(
        `'${name}' in ${file.path} is not a setting of ${aRole(role)}${hint(name, [...byName.keys()], owners)}`,
      );
    }
    const text = asText(value, option.many);
    if (text === undefined) {
      const wanted = option.many ? `text or a list of texts` : `text, a number or true/false`;
      return refuse(`${flagOf(option)} (from '${name}' in ${file.path}): must be ${wanted}, like ${option.example}`);
    }
    values.set(name, text);
  }
  return ok(values);
}

function asText(value: unknown, many: boolean): string | undefined {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') return String(value);
  if (many && Array.isArray(value) && value.length > 0 && value.every((part) => typeof part === 'string')) {
    return value.join(',');
  }
  return undefined;
}

/** Other roles that have a setting of this name. */
function ownersOf(name: string, nameOf: (o: OptionTable[string]) => string, except: Role): readonly Role[] {
  return ROLES.filter((role) => role !== except && Object.values(OPTIONS[role]).some((o) => nameOf(o) === name));
}

function hint(name: string, known: readonly string[], owners: readonly Role[]): string {
  if (owners.length > 0) return ` (but of ${owners.map(aRole).join(' and ')})`;
  const near = closest(name, known);
  return near === undefined ? '' : `; did you mean ${near}?`;
}
