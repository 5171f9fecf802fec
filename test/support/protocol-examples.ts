import {
  authSigningInput,
  enrolSigningInput,
  makeAuthRequest,
  PROTOCOL_VERSION,
  renewalSigningInput,
} from '../../src/core/auth.js';
import type { Crypto } from '../../src/core/ports/crypto.js';
import { presharedKeyOf } from '../../src/core/preshared.js';
import { probeAnswer, probeRequest, vouchInput, vouchRequest } from '../../src/core/probe.js';
import { formatJoinToken } from '../../src/identity/join-token.js';
import { openSodium } from '../../src/identity/sodium.js';
import { statements } from '../../src/identity/statements.js';
import { type IpAddress, parseEndpoint, parseHostPort } from '../../src/model/address.js';
import { type Bytes, fromBase64, fromHex, signingInput, toHex } from '../../src/model/bytes.js';
import { keyOf, sessionIdOf } from '../../src/model/ids.js';
import { wireGuardPublicKeyOf } from '../../src/model/keys.js';
import { parseRegion } from '../../src/model/role.js';
import { instantOf } from '../../src/model/time.js';
import { encodeControl } from '../../src/transport/codec/control.js';

/** `name = value` lines of the document's block of inputs. */
export type ExampleInputs = ReadonlyMap<string, string>;

/**
 * The worked examples of docs/protocol.md as the real code makes them: name of the document's block -> its hexadecimal
 * digits, or its text. Throws for an input that the document does not give.
 */
export async function protocolExamples(inputs: ExampleInputs): Promise<ReadonlyMap<string, string>> {
  const { crypto } = await openSodium();
  const { signMembership, signOffer } = statements(crypto);
  const text = (name: string): string => {
    const value = inputs.get(name);
    if (value === undefined) throw new Error(`docs/protocol.md gives no input called ${name}`);
    return value;
  };
  const bytes = (name: string): Bytes => must(fromHex(text(name)), name);
  const number = (name: string): number => Number(text(name));
  const wireGuard = (name: string) => value(wireGuardPublicKeyOf(bytes(name)), name);

  const base = crypto.identityFromSeed(bytes('base_seed'));
  const peer = crypto.identityFromSeed(bytes('peer_seed'));
  const server = crypto.identityFromSeed(bytes('server_seed'));
  const region = value(parseRegion(text('region')), 'region');
  const now = instantOf(number('timestamp_ms'));

  const membership = signMembership(base, {
    peer: peer.id,
    roles: ['exit'],
    region,
    pool: text('pool'),
    notBefore: instantOf(number('not_before_ms')),
    notAfter: instantOf(number('not_after_ms')),
    epoch: number('epoch'),
  });
  const wireguardKey = wireGuard('exit_wireguard_key');
  const view = { id: server.id, challenge: bytes('challenge'), serverKeyHash: bytes('server_key_hash') };
  const request = makeAuthRequest(
    peer,
    {
      membership,
      role: 'exit',
      region,
      wireguardKey,
      capabilities: {
        software: text('software'),
        ipv6: true,
        publicEndpoint: undefined,
        country: undefined,
        maxMbps: 0,
        sessionCapacity: 0,
      },
      sessions: [],
      supernode: undefined,
    },
    view,
    now,
    { bytes: () => bytes('client_nonce'), fraction: () => 0 },
  );
  const authInput = authSigningInput({
    protocolVersion: PROTOCOL_VERSION,
    challenge: view.challenge,
    clientNonce: bytes('client_nonce'),
    peer: peer.id,
    role: 'exit',
    region,
    wireguardKey,
    server: server.id,
    serverKeyHash: view.serverKeyHash,
    timestamp: now,
  });

  const offer = signOffer(peer, {
    session: value(sessionIdOf(bytes('session_id')), 'session_id'),
    clientKey: wireGuard('client_key'),
    exitKey: wireguardKey,
    inner: {
      ipv4: text('inner_ipv4') as IpAddress,
      ipv6: text('inner_ipv6') as IpAddress,
      gatewayIpv4: text('gateway_ipv4') as IpAddress,
      gatewayIpv6: text('gateway_ipv6') as IpAddress,
    },
    kemCiphertext: new Uint8Array(),
    kemKeyHash: new Uint8Array(),
    expires: instantOf(number('expires_ms')),
    ipv6: true,
  });

  const token = formatJoinToken(
    {
      base: [value(parseHostPort(text('base_address')), 'base_address')],
      caKeyHash: bytes('ca_key_hash'),
      secret: bytes('token_secret'),
      role: 'exit',
      region,
    },
    crypto.sha256,
  );
  const enrolment = {
    tokenSecret: bytes('token_secret'),
    peer: peer.id,
    role: 'exit',
    region: undefined,
    csr: new Uint8Array(),
    timestamp: now,
  } as const;
  const renewal = { peer: peer.id, csr: new Uint8Array(), timestamp: now };

  const exchange = {
    session: value(sessionIdOf(bytes('session_id')), 'session_id'),
    clientKey: wireGuard('client_key'),
    exitKey: wireguardKey,
    kemKey: new Uint8Array(1184).fill(3),
    ciphertext: new Uint8Array(1088).fill(4),
  };
  let pskInfo: Bytes = new Uint8Array();
  const listening: Pick<Crypto, 'hkdfSha256' | 'sha256'> = {
    sha256: crypto.sha256,
    hkdfSha256: (key, salt, info, length) => {
      pskInfo = info;
      return crypto.hkdfSha256(key, salt, info, length);
    },
  };
  const psk = fromBase64(presharedKeyOf(listening, new Uint8Array(32).fill(7), exchange)) ?? new Uint8Array();

  const nonce = bytes('probe_nonce');
  const vouched = vouchInput(bytes('probe_token'), nonce, number('counter'));
  const hex = {
    'base-key': keyOf(base.id),
    'peer-key': keyOf(peer.id),
    'server-key': keyOf(server.id),
    'membership-body': membership.body,
    'membership-input': signingInput('vpnd/membership/v1', [membership.body]),
    'membership-signature': membership.signature,
    'enrol-input': enrolSigningInput(enrolment),
    'enrol-signature': peer.sign(enrolSigningInput(enrolment)),
    'renewal-input': renewalSigningInput(renewal),
    'renewal-signature': peer.sign(renewalSigningInput(renewal)),
    'auth-input': authInput,
    'auth-signature': request.signature,
    'auth-message': encodeControl(request),
    'offer-body': offer.body,
    'offer-input': signingInput('vpnd/offer/v1', [offer.body]),
    'offer-signature': offer.signature,
    'psk-info': pskInfo,
    psk,
    'probe-question': probeRequest(nonce),
    'probe-answer': probeAnswer(nonce, value(parseEndpoint(text('observed')), 'observed')),
    'vouch-input': vouched,
    'vouch-signature': peer.sign(vouched),
    'vouch-datagram': vouchRequest(nonce, number('counter'), peer.id, peer.sign(vouched)),
    'ping-message': encodeControl({ kind: 'ping', id: 1, load: undefined }),
  };
  return new Map([
    ...Object.entries(hex).map(([name, value]) => [name, toHex(value)] as const),
    ['base-id', base.id],
    ['peer-id', peer.id],
    ['server-id', server.id],
    ['join-token', token],
  ]);
}

function must<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new Error(`the input ${name} of docs/protocol.md cannot be read`);
  return value;
}

const value = <T>(result: { ok: true; value: T } | { ok: false }, name: string): T =>
  must(result.ok ? result.value : undefined, name);
