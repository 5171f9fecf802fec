import type { MessageInitShape } from '@bufbuild/protobuf';
import type { BaseStore, TokenRecord } from '../../core/ports/store.js';
import type {
  CreateTokenRequest,
  CreateTokenResponseSchema,
  ListTokensResponseSchema,
  RevokeTokenRequest,
  TokenSummarySchema,
} from '../../gen/vpnd/v1/admin_pb.js';
import { formatJoinToken } from '../../identity/join-token.js';
import { hashTokenSecret, newTokenId, newTokenSecret } from '../../identity/secret.js';
import { memberRoleOf, wireRole } from '../../identity/wire-roles.js';
import type { HostPort } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import { type MemberRole, parseRegion, type Region } from '../../model/role.js';
import { days, type Millis, ms, plus } from '../../model/time.js';
import type { RolePorts } from '../ports.js';

const MOST_USES = 1_000_000;
const LONGEST_TTL: Millis = days(3650);
const LONGEST_NOTE = 200;

/** Join tokens, as the operator of base makes and revokes them. */
export class Tokens {
  constructor(
    private readonly overlay: {
      readonly advertise: readonly HostPort[];
      readonly caKeyHash: () => Bytes;
      readonly baseKey: () => Bytes;
    },
    private readonly ports: RolePorts<BaseStore>,
    private readonly changed: () => void,
  ) {}

  /** Rejects with `bad-config` naming the option. The answer is the only time the token's text exists. */
  async create(request: CreateTokenRequest): Promise<MessageInitShape<typeof CreateTokenResponseSchema>> {
    const { role, egress, region, pool, ttl, uses, note } = checked(request);
    const { advertise } = this.overlay;
    const [caKeyHash, baseKey] = [this.overlay.caKeyHash(), this.overlay.baseKey()];
    if (advertise.length === 0)
      throw new VpndError(
        'bad-config',
        'base does not know under which address nodes reach it; start it with --advertise <host:port>',
      );
    const { audit, clock, crypto, random, store, log } = this.ports;
    const secret = newTokenSecret(random);
    const now = clock.now();
    const record: TokenRecord = {
      id: newTokenId(random),
      secretHash: hashTokenSecret(crypto, secret),
      role,
      egress,
      region,
      pool,
      note,
      createdAt: now,
      expiresAt: plus(now, ttl),
      uses,
      usesLeft: uses,
      revoked: false,
    };
    const { expiresAt } = record;
    const detail = { role, egress, region, pool, uses, expires: new Date(expiresAt).toISOString(), note };
    await audit.record({ code: 'token-made', by: 'operator', on: `token:${record.id}`, detail });
    await store.directory.createToken(record);
    log.info('join token made', { role, region, count: uses });
    this.changed();
    const token = formatJoinToken({ base: advertise, caKeyHash, secret, role, region, baseKey }, crypto.sha256);
    return { token, summary: summaryOf(record) };
  }

  async list(): Promise<MessageInitShape<typeof ListTokensResponseSchema>> {
    const tokens = await this.ports.store.directory.tokens();
    return { tokens: [...tokens].sort((a, b) => b.createdAt - a.createdAt).map(summaryOf) };
  }

  /** Rejects with `not-found`. */
  async revoke({ tokenId }: RevokeTokenRequest): Promise<void> {
    if ((await this.ports.store.directory.tokens()).some(({ id }) => id === tokenId))
      await this.ports.audit.record({ code: 'token-revoked', by: 'operator', on: `token:${tokenId}` });
    if (!(await this.ports.store.directory.revokeToken(tokenId)))
      throw new VpndError('not-found', `there is no join token ${tokenId.slice(0, 64)}; \`vpnd token list\` shows all`);
    this.ports.log.info('join token revoked');
    this.changed();
  }
}

interface Wanted {
  readonly role: MemberRole;
  readonly egress: boolean;
  readonly region: Region;
  readonly pool: string;
  readonly ttl: Millis;
  readonly uses: number;
  readonly note: string;
}

function checked(request: CreateTokenRequest): Wanted {
  const role = memberRoleOf(request.role);
  if (role === undefined) throw refused('--role is one of supernode, exit and client');
  const { egress, pool, note } = request;
  if (egress && role !== 'supernode')
    throw refused('--egress is for --role supernode: it lets a supernode be an exit too');
  const region = parseRegion(request.region);
  if (!region.ok)
    throw refused('--region is a word of lower-case letters, digits and hyphens, at most 32, such as eu or us-east-1');
  if (pool !== '' && !parseRegion(pool).ok)
    throw refused('--pool is a word of lower-case letters, digits and hyphens, at most 32');
  const ttl = Number(request.ttlMs);
  if (!(ttl > 0 && ttl <= LONGEST_TTL)) throw refused('--ttl is more than nothing and at most ten years');
  if (request.uses < 1 || request.uses > MOST_USES) throw refused(`--uses is between 1 and ${MOST_USES}`);
  if (note.length > LONGEST_NOTE || /\p{Cc}/u.test(note))
    throw refused(`--note is one line of at most ${LONGEST_NOTE} characters`);
  return { role, egress, region: region.value, pool, ttl: ms(ttl), uses: request.uses, note };
}

const refused = (what: string): VpndError => new VpndError('bad-config', what);

const summaryOf = (token: TokenRecord): MessageInitShape<typeof TokenSummarySchema> => ({
  tokenId: token.id,
  role: wireRole(token.role),
  region: token.region,
  pool: token.pool,
  expiresMs: BigInt(Math.round(token.expiresAt)),
  usesLeft: token.usesLeft,
  uses: token.uses,
  note: token.note,
  revoked: token.revoked,
  egress: token.egress,
});
