import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { JoinTokenSchema, type JoinToken as WireToken } from '../gen/vpnd/v1/token_pb.js';
import { formatHostPort, type HostPort, parseHostPort } from '../model/address.js';
import { type Bytes, concat, equalConstantTime, fromBase32, toBase32 } from '../model/bytes.js';
import { VpndError } from '../model/errors.js';
import { KEY_LENGTH } from '../model/ids.js';
import type { JoinToken } from '../model/messages.js';
import { err, ok, type Result } from '../model/result.js';
import { parseRegion } from '../model/role.js';
import { TOKEN_SECRET_LENGTH } from './secret.js';
import { memberRoleOf, wireRole } from './wire-roles.js';

const PREFIX = 'vpnd1';
const CHECKSUM_LENGTH = 4;
const HASH_LENGTH = 32;
/** A token holds a few addresses; anything longer is not one, and need not be decoded to know it. */
const TEXT_LIMIT = 8192;

export type Sha256 = (input: Bytes) => Bytes;

/** One line: `vpnd1`, then base32 (RFC 4648, lower case) of a serialised JoinToken and 4 bytes of its SHA-256. */
export function formatJoinToken(token: JoinToken, sha256: Sha256): string {
  const body = toBinary(
    JoinTokenSchema,
    create(JoinTokenSchema, {
      base: token.base.map(({ host, port }) => ({ host, port })),
      caKeyHash: token.caKeyHash,
      secret: token.secret,
      role: wireRole(token.role),
      region: token.region,
      ...(token.baseKey !== undefined && { baseKey: token.baseKey }),
    }),
  );
  return PREFIX + toBase32(concat(body, sha256(body).slice(0, CHECKSUM_LENGTH)));
}

/**
 * Reads a token as people paste them: white space and line breaks anywhere, upper case. Error `bad-token` says what is
 * wrong and what to do; it never repeats the text, which holds a secret.
 */
export function parseJoinToken(text: string, sha256: Sha256): Result<JoinToken, VpndError> {
  const compact = text.replace(/[\s\u200b\ufeff]+/g, '').toLowerCase();
  if (compact === '') return bad('the join token is empty');
  if (/^vpnd\d/.test(compact) && !compact.startsWith(PREFIX))
    return bad('this join token was made by a newer vpnd; upgrade this one');
  if (!compact.startsWith(PREFIX)) return bad(`this is not a join token: a join token begins with "${PREFIX}"`);
  if (compact.length > TEXT_LIMIT) return bad('this is not a join token: it is too long for one');
  const bytes = fromBase32(compact.slice(PREFIX.length));
  if (bytes === undefined || bytes.length <= CHECKSUM_LENGTH)
    return bad('this join token is damaged: characters are missing or foreign; copy it again whole');
  const body = bytes.subarray(0, bytes.length - CHECKSUM_LENGTH);
  const checksum = bytes.subarray(bytes.length - CHECKSUM_LENGTH);
  if (!equalConstantTime(checksum, sha256(body).slice(0, CHECKSUM_LENGTH)))
    return bad('this join token is damaged: its checksum does not fit; copy it again whole');
  let wire: WireToken;
  try {
    wire = fromBinary(JoinTokenSchema, body);
  } catch {
    return bad('this join token holds something this vpnd cannot read; make a new one');
  }
  return readToken(wire);
}

function readToken(wire: WireToken): Result<JoinToken, VpndError> {
  const base: HostPort[] = [];
  for (const { host, port } of wire.base) {
    const at = parseHostPort(host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);
    if (!at.ok) return bad("this join token's address of base is not an address; make a new one");
    base.push(at.value);
  }
  if (base.length === 0) return bad('this join token does not say where base is; make a new one');
  if (wire.caKeyHash.length !== HASH_LENGTH) return bad("this join token lacks the hash of base's CA; make a new one");
  if (wire.secret.length !== TOKEN_SECRET_LENGTH) return bad('this join token lacks its secret; make a new one');
  const role = memberRoleOf(wire.role);
  if (role === undefined) return bad('this join token is for a role this vpnd does not know; upgrade vpnd');
  const region = parseRegion(wire.region);
  if (!region.ok) return bad('this join token does not name a region; make a new one');
  const { caKeyHash, secret, baseKey } = wire;
  if (baseKey.length !== 0 && baseKey.length !== KEY_LENGTH)
    return bad('this join token names a key of base that is none; make a new one');
  const known = { base, caKeyHash, secret, role, region: region.value };
  return ok(baseKey.length === 0 ? known : { ...known, baseKey });
}

/** For people who ask what a token is: everything but its secret. */
export const describeJoinToken = (token: JoinToken): string =>
  `a join token for role ${token.role} in region ${token.region}, base at ${token.base.map(formatHostPort).join(', ')}`;

const bad = (message: string): Result<never, VpndError> => err(new VpndError('bad-token', message));
