import { VpndError } from '../model/errors.js';
import { err, ok, type Result } from '../model/result.js';
import type { Role } from '../model/role.js';
import type { RawConfig } from './sources.js';

export interface Readers {
  /** Text of the configuration file. */
  readonly read: (path: string) => string;
  /** As RawConfig.read. */
  readonly readSecret: (path: string) => string;
  /** As RawConfig.secrets. */
  readonly secrets?: Readonly<Record<string, string>> | undefined;
}

/**
 * What a daemon's configuration is made from, off this machine: the file named by `config`, else by VPND_CONFIG, else
 * /etc/vpnd/<role>.toml if it is there. Errors: VpndError `bad-config` for a named file that cannot be read.
 */
export function loadRawConfig(
  role: Role,
  flags: Readonly<Record<string, string>>,
  config: string | undefined,
  env: NodeJS.ProcessEnv,
  { read, readSecret, secrets }: Readers,
): Result<RawConfig, VpndError> {
  const named = config ?? env.VPND_CONFIG;
  const path = named ?? `/etc/vpnd/${role}.toml`;
  const rest = { flags, env, read: readSecret, ...(secrets === undefined ? {} : { secrets }) };
  try {
    return ok({ ...rest, file: { path, text: read(path) } });
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (named === undefined && code === 'ENOENT') return ok({ ...rest, file: undefined });
    const why = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code ?? 'unknown error'})`;
    const source = config === undefined && named !== undefined ? ' (from VPND_CONFIG)' : '';
    return err(new VpndError('bad-config', `--config${source}: '${path}' ${why}`, { cause }));
  }
}
