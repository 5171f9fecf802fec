import type { OptionTable } from '../config/option.js';
import { OPTIONS } from '../config/options.js';
import type { DaemonConfig } from '../config/types.js';
import { type Audit, NO_AUDIT } from '../core/ports/audit.js';
import type { Clock } from '../core/ports/clock.js';
import type { Crypto, Identity } from '../core/ports/crypto.js';
import type { Log } from '../core/ports/log.js';
import type { FactStore, Store } from '../core/ports/store.js';
import { toHex, utf8 } from '../model/bytes.js';
import { ms, plus } from '../model/time.js';
import { openAudit, PRUNE_EVERY } from '../obs/audit.js';
import { Periodic } from '../roles/common/periodic.js';

export interface KeptAudit {
  readonly audit: Audit;
  /** Writes down that the daemon stops, and nothing after it. */
  close(): Promise<void>;
}

interface Deps {
  readonly store: Pick<Store, 'audit' | 'facts' | 'purge'>;
  readonly identity: Identity;
  readonly crypto: Crypto;
  readonly clock: Clock;
  readonly log: Log;
  readonly version: string;
}

const SETTINGS_FACT = 'audit/settings';

/**
 * The audit log of a daemon that keeps one: base and supernodes. That it starts, and which settings are others than
 * before, is noted and holds nothing up: a daemon that was killed must come back over a full disk, too.
 */
export function keepAudit(config: DaemonConfig, deps: Deps): KeptAudit {
  if (config.role !== 'base' && config.role !== 'supernode') return { audit: NO_AUDIT, close: async () => {} };
  const { store, identity, crypto, clock, log } = deps;
  const soon = (task: () => void) => void setImmediate(task);
  const audit = openAudit({ store: store.audit, facts: store.facts, identity, crypto, clock, log, soon });
  const detail = { role: config.role, version: deps.version };
  audit.note({ code: 'daemon-started', by: 'daemon', on: `peer:${identity.id}`, detail });
  noteSettings(config, audit, deps);
  const prune = () => {
    if (audit.forget(plus(clock.now(), ms(-config.retainAudit))) > 0) store.purge();
  };
  const regularly = new Periodic('removing old audit entries', PRUNE_EVERY, prune, deps);
  attempt(prune, log);
  regularly.start();
  return {
    audit,
    async close() {
      await regularly.stop();
      audit.note({ code: 'daemon-stopped', by: 'daemon', on: `peer:${identity.id}` });
      audit.close();
    },
  };
}

/** Which settings differ from those of the start before: their names; what they were is in nobody's interest here. */
function noteSettings(config: DaemonConfig, audit: Audit, { store, crypto, log }: Deps): void {
  const now = fingerprints(config, crypto);
  attempt(() => {
    const before = store.facts.get<Readonly<Record<string, string>>>(SETTINGS_FACT);
    if (before !== undefined)
      for (const name of [...new Set([...Object.keys(before), ...Object.keys(now)])].sort())
        if (before[name] !== now[name]) audit.note({ code: 'config-changed', by: 'operator', on: `setting:${name}` });
    keep(store.facts, before, now);
  }, log);
}

function keep(
  facts: FactStore,
  before: Readonly<Record<string, string>> | undefined,
  now: Record<string, string>,
): void {
  if (JSON.stringify(before) !== JSON.stringify(now)) facts.put(SETTINGS_FACT, now);
}

/** Settings by their option's name; secrets are left out, since even a hash of one tells something. */
function fingerprints(config: DaemonConfig, { sha256 }: Pick<Crypto, 'sha256'>): Record<string, string> {
  const table: OptionTable = OPTIONS[config.role];
  const values: Readonly<Record<string, unknown>> = { ...config };
  const found: Record<string, string> = {};
  for (const [key, option] of Object.entries(table)) {
    if (option.secret || !(key in values)) continue;
    found[option.name] = toHex(sha256(utf8(JSON.stringify(values[key]) ?? 'unset'))).slice(0, 16);
  }
  return found;
}

function attempt(task: () => void, log: Log): void {
  try {
    task();
  } catch (err) {
    log.warn('the audit log could not be brought up to date', { err });
  }
}
