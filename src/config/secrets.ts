import { VpndError } from '../model/errors.js';
import { flagOf, type Option, type OptionTable, secretFileKey, variableOf } from './option.js';
import { OPTIONS } from './options.js';
import { SecretFileError } from './secret-file.js';
import type { Given, RawConfig } from './sources.js';

/** Where systemd puts what LoadCredential= names. */
const CREDENTIALS = 'CREDENTIALS_DIRECTORY';

const refuse = (message: string): never => {
  throw new VpndError('bad-config', message);
};

/**
 * The text of a secret and where it came from, from the first of: the value or the file that a flag names, a variable,
 * the configuration file; a systemd credential of the option's name. A value and a file of one source contradict each
 * other. Undefined where there is none. Throws VpndError `bad-config`.
 */
export function secretOf(
  key: string,
  option: Option<unknown>,
  given: ReadonlyMap<string, Given>,
  raw: RawConfig,
): Given | undefined {
  if (raw.secrets !== undefined) {
    const text = raw.secrets[option.name];
    return text === undefined ? undefined : { text, where: flagOf(option), rank: 3 };
  }
  const value = given.get(key);
  const file = given.get(secretFileKey(key));
  if (value !== undefined && file !== undefined && value.rank === file.rank)
    refuse(`${file.where}: give either ${flagOf(option)} or ${flagOf(option)}-file, not both`);
  if (file !== undefined && (value === undefined || file.rank > value.rank)) return fromFile(file, raw);
  return value ?? fromCredential(option, raw);
}

function fromFile(file: Given, raw: RawConfig): Given {
  try {
    return { text: raw.read(file.text), where: `${file.where}: what '${file.text}' holds`, rank: file.rank };
  } catch (thrown) {
    return refuse(`${file.where}: '${file.text.slice(0, 200)}' ${reason(thrown)}`);
  }
}

function fromCredential(option: Option<unknown>, raw: RawConfig): Given | undefined {
  const dir = raw.env[CREDENTIALS];
  if (dir === undefined || dir === '') return undefined;
  const where = `${flagOf(option)} (from the systemd credential '${option.name}')`;
  try {
    return { text: raw.read(`${dir}/${option.name}`), where, rank: 0 };
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    return refuse(`${where}: '${dir}/${option.name}' ${reason(thrown)}`);
  }
}

function reason(thrown: unknown): string {
  if (thrown instanceof SecretFileError) return thrown.message;
  const code = (thrown as NodeJS.ErrnoException).code;
  return code === 'ENOENT' ? 'does not exist' : `cannot be read (${code ?? 'unknown error'})`;
}

const secretOptions = (role: keyof typeof OPTIONS): readonly (readonly [string, Option<unknown>])[] =>
  Object.entries(OPTIONS[role] as OptionTable).filter(([, option]) => option.secret);

/** Flags whose value is a secret, of any role: `--join`. */
export const SECRET_FLAGS: ReadonlySet<string> = new Set(
  (['base', 'supernode', 'exit', 'client'] as const).flatMap((role) =>
    secretOptions(role).map(([, option]) => flagOf(option)),
  ),
);

/** Takes the secrets out of an environment: children inherit it, and it can be dumped as long as the process lives. */
export function dropSecretVariables(role: keyof typeof OPTIONS, env: Record<string, string | undefined>): void {
  for (const [, option] of secretOptions(role)) delete env[variableOf(option)];
}

/** The secrets of a checked configuration, by option name, for a process that can read none of their sources. */
export function secretsIn(
  role: keyof typeof OPTIONS,
  config: Readonly<Record<string, unknown>>,
): Readonly<Record<string, string>> {
  return Object.fromEntries(
    secretOptions(role).flatMap(([key, option]) => {
      const value = config[key];
      return typeof value === 'string' ? [[option.name, value]] : [];
    }),
  );
}
