import type { SupernodeConfig } from '../../config/types.js';
import type { Projection } from '../../core/executor.js';
import type { Statements } from '../../core/ports/authority.js';
import type { Clock } from '../../core/ports/clock.js';
import type { SessionRecord } from '../../core/ports/store.js';
import type { CommandDone } from '../../model/command.js';
import type { Unit } from '../../model/dataplane.js';
import { VpndError } from '../../model/errors.js';
import type { SessionId } from '../../model/ids.js';
import type { AddressPlan } from '../../model/messages.js';
import { checkInner, EGRESS_TERMS, exitAnswer, exitDevice, exitPeer } from '../common/exit-units.js';
import type { NodeKeys } from '../common/keys.js';

export interface SupernodePlaneDeps {
  readonly config: SupernodeConfig;
  readonly keys: NodeKeys;
  readonly statements: Statements;
  readonly clock: Clock;
  /** Whether the machine reaches the internet over IPv6. */
  readonly ipv6: boolean;
  addressPlan(): AddressPlan | undefined;
  ended(session: SessionId, why: 'disconnect' | 'expired'): void;
}

/** What a supernode's commands mean to its data plane: relay ports, and peers of its own egress. */
export function supernodeProjection(deps: SupernodePlaneDeps): Projection {
  const { config } = deps;
  return {
    fixed(): readonly Unit[] {
      const plan = deps.addressPlan();
      if (!config.egress || plan === undefined) return [];
      return exitDevice(config.interface, deps.keys.wireguard, config.wireguardPort, plan, deps.ipv6, EGRESS_TERMS);
    },
    units(record: SessionRecord): readonly Unit[] {
      const relays = record.desired.flatMap((desired): readonly Unit[] => {
        if (desired.kind !== 'relay-setup') return [];
        const { port, localIp, vouched, next } = desired;
        // One that nobody may send to is parked: the port stays the session's, and the kernel has nothing of it.
        return vouched.length === 0 ? [] : [{ kind: 'relay', session: record.session, port, localIp, vouched, next }];
      });
      return [...relays, ...exitPeer(config.interface, record.desired)];
    },
    accept(command, _record, others) {
      if (command.desired.kind === 'relay-update') {
        throw new VpndError('not-supported', 'a supernode’s own egress stays where it is');
      }
      if (command.desired.kind !== 'setup-exit') return;
      const plan = deps.addressPlan();
      if (!config.egress || plan === undefined) throw new VpndError('exit-refused', 'this supernode has no egress');
      checkInner(command.desired, plan, others);
    },
    answer(command, record): CommandDone {
      return exitAnswer(
        command,
        record,
        deps.keys.identity,
        deps.keys.wireguard.publicKey,
        deps.ipv6,
        deps.statements,
        deps.clock.now(),
      );
    },
    ended: deps.ended,
  };
}
