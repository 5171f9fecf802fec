import { readFileSync } from 'node:fs';
import { VpndError } from '../model/errors.js';
import { err, ok, type Result } from '../model/result.js';
import type { Role } from '../model/role.js';
import type { RawConfig } from './sources.js';

/**
 * What a daemon's configuration is made from, off this machine: the file named by `config`, else by VPND_CONFIG, else
 * /etc/vpnd/<role>.toml if it is there. Errors: VpndError `bad-config` for a named file that cannot be read.
 */
export function loadRawConfig(
  role: Role,
  flags: Readonly<Record<string, string>>,
  config: string | undefined,
  env: NodeJS.ProcessEnv,
  read: (path: string) => string = (path) => readFileSync(path, 'utf8'),
): Result<RawConfig, VpndError> {
  const named = config ?? env.VPND_CONFIG;
  const path = named ?? `/etc/vpnd/${role}.toml`;
  try {
    return ok({ flags, env, file: { path, text: read(path) }, read });
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (named === undefined && code === 'ENOENT') return ok({ flags, env, file: undefined, read });
    const why = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code ?? 'unknown error'})`;
    const source = config === undefined && named !== undefined ? ' (from VPND_CONFIG)' : '';
    return err(new VpndError('bad-config', `--config${source}: '${path}' ${why}`, { cause }));
  }
}
