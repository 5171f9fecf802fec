import type { ExitConfig } from '../../config/types.js';
import type { Projection } from '../../core/executor.js';
import type { Statements } from '../../core/ports/authority.js';
import type { Clock } from '../../core/ports/clock.js';
import type { SessionRecord } from '../../core/ports/store.js';
import { VpndError } from '../../model/errors.js';
import type { SessionId } from '../../model/ids.js';
import type { AddressPlan } from '../../model/messages.js';
import { isNeverAHost } from '../../model/never-a-host.js';
import { checkInner, type ExitTerms, exitAnswer, exitDevice, exitPeer } from '../common/exit-units.js';
import type { NodeKeys } from '../common/keys.js';
import type { WireGuardKeys } from './wireguard-keys.js';

export interface ExitProjectionDeps {
  readonly config: ExitConfig;
  readonly keys: Pick<NodeKeys, 'identity'>;
  readonly wireguard: WireGuardKeys;
  readonly sessions: () => readonly SessionRecord[];
  readonly statements: Statements;
  readonly clock: Clock;
  /** Whether this exit carries IPv6. */
  readonly ipv6: boolean;
  readonly plan: () => AddressPlan | undefined;
  /** Why nobody is let in at present; undefined while the exit is open. */
  readonly closed: () => string | undefined;
  ended(session: SessionId, why: 'disconnect' | 'expired'): void;
}

/** What commands mean to an exit: one WireGuard peer per session, on the device of the key that the session was given. */
export function exitProjection(deps: ExitProjectionDeps): Projection {
  const { config, keys, wireguard } = deps;
  return {
    fixed() {
      const plan = deps.plan();
      return plan === undefined
        ? []
        : wireguard.fixed(
            ({ pair }, device, port) => exitDevice(device, pair, port, plan, deps.ipv6, termsOf(config)),
            deps.sessions,
          );
    },
    units(record) {
      return exitPeer(wireguard.device(wireguard.of(record)), record.desired);
    },
    accept(command, record, others) {
      const { desired } = command;
      if (desired.kind === 'relay-setup') throw new VpndError('not-supported', 'an exit relays for nobody');
      const endpoint = 'endpoint' in desired ? desired.endpoint : undefined;
      if (endpoint !== undefined && isNeverAHost(endpoint.ip)) {
        throw new VpndError('exit-refused', `${endpoint.ip} is no address that a session's packets are sent to`);
      }
      if (desired.kind !== 'setup-exit') return;
      const isNew = record === undefined || record.desired.length === 0;
      const closed = isNew ? deps.closed() : undefined;
      if (closed !== undefined) throw new VpndError('exit-refused', `this exit is closed: ${closed}`);
      if (isNew && others.length >= config.sessionCapacity) {
        throw new VpndError(
          'exit-refused',
          config.sessionCapacity === 1
            ? `this exit's owner allows one session at a time, and it is taken`
            : `this exit's owner allows ${config.sessionCapacity} sessions at a time, and all are taken`,
        );
      }
      const plan = deps.plan();
      if (plan === undefined)
        throw new VpndError('exit-refused', 'this exit has not been told its addresses yet', { retryable: true });
      checkInner(desired, plan, others);
    },
    prepare: (command, next, before) => wireguard.prepare(command, next, before),
    answer(command, record) {
      return exitAnswer(
        command,
        record,
        keys.identity,
        wireguard.of(record).pair.publicKey,
        deps.ipv6,
        deps.statements,
        deps.clock.now(),
      );
    },
    ended: deps.ended,
  };
}

/** The owner's contract, as far as it is the kernel's to keep. */
export const termsOf = (config: ExitConfig): ExitTerms => ({
  forbidden: config.forbid,
  forbidOnLink: true,
  limits: {
    newPerSession: config.maxNewConnections,
    newInAll: config.maxNewConnectionsInAll,
    openPerSession: config.maxConnections,
  },
  mbps: config.maxMbps,
  sessionMbps: config.maxSessionMbps,
});
