import type { FactStore } from '../../core/ports/store.js';
import { type HostPort, parseHostPort, parseIp, parsePort } from '../../model/address.js';
import { type Bytes, fromBase64, toBase64 } from '../../model/bytes.js';
import { NO_LOAD, type SupernodeInfo } from '../../model/directory.js';
import { VpndError } from '../../model/errors.js';
import { parsePeerId } from '../../model/ids.js';
import type { Signed } from '../../model/membership.js';
import type { Result } from '../../model/result.js';
import { type MemberRole, parseRegion } from '../../model/role.js';
import type { Enrolment } from './enrol.js';
import { type Anchored, bundleOf, trustIn } from './trust-anchors.js';

const NAME = 'enrolment';
/** On record from before base is asked until its answer is: it may have enrolled this node and the answer got lost. */
const ASKED = 'enrolment/asked';

/** An enrolment as JSON: byte strings in base64, everything else as text. */
interface Kept {
  readonly peer: string;
  readonly role: string;
  readonly region: string;
  readonly membership: { readonly body: string; readonly signature: string };
  /** Before any statement: base's one key and the one CA. */
  readonly baseKey: string;
  readonly ca: string;
  /** From the first statement on. */
  readonly anchors?: KeptAnchors;
  readonly baseAddresses: readonly { readonly host: string; readonly port: number }[];
  readonly supernodes: readonly KeptSupernode[];
  readonly certificate?: string;
  readonly tlsKey?: string;
  readonly token?: string;
}

interface KeptAnchors {
  readonly serial: number;
  readonly baseKeys: readonly string[];
  readonly authorities: readonly string[];
  readonly chain: readonly { readonly body: string; readonly signature: string }[];
}

interface KeptSupernode {
  readonly id: string;
  readonly region: string;
  readonly addresses: readonly { readonly host: string; readonly port: number }[];
  readonly relayIps: readonly string[];
  readonly probePort?: number;
}

/** Written before the join token is spent: a disk that is full shows now. Throws what the store throws. */
export const enrolmentAsked = (facts: FactStore): void => facts.put(ASKED, true);
/** base said no: it does not know this node. */
export const enrolmentRefused = (facts: FactStore): void => facts.remove(ASKED);
/** Whether base knows, or may know, the node whose state this is. */
export const mayBeMember = (facts: FactStore): boolean =>
  facts.get(NAME) !== undefined || facts.get(ASKED) !== undefined;

export function saveEnrolment(facts: FactStore, enrolment: Enrolment): void {
  const { membership, anchors, supernodes, ...rest } = enrolment;
  const { trust, chain } = anchors;
  const kept: Kept = {
    ...rest,
    membership: { body: toBase64(membership.body), signature: toBase64(membership.signature) },
    baseKey: trust.baseKeys[0] === undefined ? '' : toBase64(trust.baseKeys[0]),
    ca: bundleOf(trust.authorities),
    ...(trust.serial > 0 && {
      anchors: {
        serial: trust.serial,
        baseKeys: trust.baseKeys.map(toBase64),
        authorities: trust.authorities,
        chain: chain.map(({ body, signature }) => ({ body: toBase64(body), signature: toBase64(signature) })),
      },
    }),
    supernodes: supernodes.map(({ id, region, addresses, relayIps, probePort }) => ({
      id,
      region,
      addresses,
      relayIps,
      ...(probePort !== undefined && { probePort }),
    })),
  };
  facts.put(NAME, kept);
  facts.remove(ASKED);
}

/**
 * What `saveEnrolment` kept; undefined before the first enrolment. Throws `state-corrupt` for anything else. How loaded
 * the supernodes were then is not kept: it says nothing now.
 */
export function loadEnrolment(facts: FactStore): Enrolment | undefined {
  const kept = facts.get<Kept>(NAME);
  if (kept === undefined) return undefined;
  try {
    return {
      peer: must(parsePeerId(kept.peer)),
      role: roleOf(kept.role),
      region: must(parseRegion(kept.region)),
      membership: signedOf(kept.membership),
      anchors: anchorsOf(kept),
      baseAddresses: kept.baseAddresses.map(addressOf),
      supernodes: kept.supernodes.map(supernodeOf),
      ...(kept.certificate !== undefined && { certificate: text(kept.certificate) }),
      ...(kept.tlsKey !== undefined && { tlsKey: text(kept.tlsKey) }),
      ...(kept.token !== undefined && { token: text(kept.token) }),
    };
  } catch (cause) {
    throw new VpndError('state-corrupt', 'the enrolment in the state directory cannot be read; it is left as it is', {
      cause,
    });
  }
}

function anchorsOf({ anchors, baseKey, ca }: Kept): Anchored {
  if (anchors === undefined) return { trust: trustIn(bytesOf(baseKey), [text(ca)]), chain: [] };
  const { serial, baseKeys, authorities, chain } = anchors;
  return {
    trust: { serial: Number(serial), baseKeys: baseKeys.map(bytesOf), authorities: authorities.map(text) },
    chain: chain.map(signedOf),
  };
}

function supernodeOf(kept: KeptSupernode): SupernodeInfo {
  return {
    id: must(parsePeerId(kept.id)),
    region: must(parseRegion(kept.region)),
    addresses: kept.addresses.map(addressOf),
    relayIps: kept.relayIps.map((ip) => must(parseIp(ip))),
    probePort: kept.probePort === undefined ? undefined : must(parsePort(kept.probePort)),
    draining: false,
    load: NO_LOAD,
  };
}

const signedOf = (kept: Kept['membership']): Signed => ({
  body: bytesOf(kept.body),
  signature: bytesOf(kept.signature),
});

const addressOf = ({ host, port }: { host: string; port: number }): HostPort =>
  must(parseHostPort(host, must(parsePort(port))));

function roleOf(kept: string): MemberRole {
  if (kept === 'supernode' || kept === 'exit' || kept === 'client') return kept;
  throw new TypeError(`role ${kept}`);
}

function bytesOf(kept: string): Bytes {
  const bytes = fromBase64(kept);
  if (bytes === undefined) throw new TypeError('base64');
  return bytes;
}

function text(kept: unknown): string {
  if (typeof kept === 'string') return kept;
  throw new TypeError('text');
}

function must<T>(parsed: Result<T, string>): T {
  if (parsed.ok) return parsed.value;
  throw new TypeError(parsed.error);
}
