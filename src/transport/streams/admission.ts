import { checkAuthRequest } from '../../core/auth.js';
import type { Statements } from '../../core/ports/authority.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Crypto } from '../../core/ports/crypto.js';
import type { AcceptedStream } from '../../core/ports/network.js';
import type { Random } from '../../core/ports/random.js';
import { VpndError } from '../../model/errors.js';
import { type PeerId, shortId } from '../../model/ids.js';
import type { AuthRequest } from '../../model/messages.js';
import { err, ok, type Result } from '../../model/result.js';
import type { Instant } from '../../model/time.js';
import { claimedPeer } from './claimed-peer.js';
import type { Gate } from './gate.js';
import type { ConnectedPeer, StreamManagerOptions } from './types.js';

const PROBE_TOKEN_BYTES = 16;

interface Deps {
  readonly clock: Clock;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly statements: Statements;
  readonly barred?: ((claimed: PeerId) => VpndError | undefined) | undefined;
}

/** From an AuthRequest to an authenticated peer. What limits strangers comes before what costs a signature check. */
export function authenticate(
  request: AuthRequest,
  accepted: AcceptedStream,
  challengeIssuedAt: Instant,
  options: StreamManagerOptions,
  gate: Gate,
  deps: Deps,
): Result<ConnectedPeer, VpndError> {
  const { ip } = accepted.stream.remote;
  const claimed = claimedPeer(request.membership);
  if (claimed === undefined) return err(new VpndError('bad-membership', 'the membership cannot be read'));
  // The key is what is compared, however the membership around it is written; no signature makes it another's.
  const barred = deps.barred?.(claimed);
  if (barred !== undefined) return err(barred);
  if (!gate.allowPeer(claimed, ip)) {
    return err(
      new VpndError('rate-limited', `too many attempts to connect as ${shortId(claimed)}`, { retryable: true }),
    );
  }
  const now = deps.clock.now();
  const checked = checkAuthRequest(
    request,
    {
      challenge: accepted.challenge,
      challengeIssuedAt,
      self: options.self,
      serverKeyHash: accepted.serverKeyHash,
      baseKey: options.baseKey,
      roles: options.roles,
      certified: accepted.certified,
      requireCertificate: options.requireCertificate,
      now,
    },
    deps,
  );
  if (!checked.ok) return checked;
  const { membership } = checked.value;
  gate.authenticated(membership.peer, ip);
  return ok({
    id: membership.peer,
    role: request.role,
    region: membership.region,
    membership,
    signedMembership: request.membership,
    remote: accepted.stream.remote,
    wireguardKey: request.wireguardKey,
    capabilities: request.capabilities,
    sessions: request.sessions,
    supernode: request.supernode,
    revocations: request.revocations,
    latency: undefined,
    load: request.supernode?.load,
    since: now,
    probeToken: deps.random.bytes(PROBE_TOKEN_BYTES),
  });
}
