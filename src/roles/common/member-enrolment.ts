import type { MemberConfig } from '../../config/types.js';
import { VpndError } from '../../model/errors.js';
import type { JoinToken } from '../../model/messages.js';
import type { MemberRole } from '../../model/role.js';
import type { RolePorts } from '../ports.js';
import { type Enrolment, enrol, isTokenOf, loadEnrolment, notEnrolled, saveEnrolment } from './enrol.js';
import { enrolmentAsked, enrolmentRefused } from './enrolment-facts.js';
import type { NodeKeys } from './keys.js';

/** As the store has it; enrolled by base first when it has none, and anew when the token is one that was not used yet. */
export async function enrolled(
  role: MemberRole,
  config: MemberConfig,
  ports: RolePorts,
  keys: NodeKeys,
): Promise<Enrolment> {
  const { facts } = ports.store;
  const known = loadEnrolment(facts);
  const token = keys.joinToken;
  if (known === undefined) {
    if (token === undefined) throw notEnrolled(role);
    const asking = { asked: () => enrolmentAsked(facts), refused: () => enrolmentRefused(facts) };
    const fresh = await enrol({ token, role, region: config.region, identity: keys.identity, ...asking }, ports);
    saveEnrolment(facts, fresh);
    recordEnrolment(fresh, ports);
    return fresh;
  }
  if (known.role !== role) {
    throw new VpndError(
      'wrong-role',
      `${config.stateDir} belongs to a ${known.role}; give this ${role} a --state-dir of its own`,
    );
  }
  const isNew = token !== undefined && !isTokenOf(known, token, ports.crypto);
  const current = isNew ? await enrolledAnew(known, token, config, ports, keys) : known;
  if (config.region !== undefined && config.region !== current.region) {
    throw new VpndError(
      'wrong-region',
      `this node is enrolled in region ${current.region}, not ${config.region}; enrol it anew to move it`,
    );
  }
  return current;
}

/** What it was enrolled as holds on when the token is no good or base cannot be reached: a restart must not need either. */
async function enrolledAnew(
  known: Enrolment,
  token: JoinToken,
  config: MemberConfig,
  ports: RolePorts,
  { identity }: NodeKeys,
): Promise<Enrolment> {
  const { role } = known;
  try {
    const fresh = await enrol({ token, role, region: config.region, identity, before: known }, ports);
    saveEnrolment(ports.store.facts, fresh);
    recordEnrolment(fresh, ports);
    return fresh;
  } catch (err) {
    ports.log.warn('the join token was not used: this node stays enrolled as it was', { err });
    return known;
  }
}

/** base has it already, and this node is what it is whether or not it can write that down. */
function recordEnrolment({ peer, role, region }: Enrolment, { audit }: RolePorts): void {
  audit.note({
    code: 'enrolled',
    by: 'base',
    on: `${role === 'supernode' ? role : 'peer'}:${peer}`,
    detail: { region },
  });
}
