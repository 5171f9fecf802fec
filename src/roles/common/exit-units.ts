import type { Statements } from '../../core/ports/authority.js';
import type { Identity } from '../../core/ports/crypto.js';
import type { SessionRecord } from '../../core/ports/store.js';
import { type Cidr, contains, hostCidr, type Port, prefixLength } from '../../model/address.js';
import type { Command, CommandDone, Desired, Preshared, SetupExit } from '../../model/command.js';
import type { ConnectionLimits, InterfaceName, PeerUnit, Unit } from '../../model/dataplane.js';
import { VpndError } from '../../model/errors.js';
import type { WireGuardKeyPair, WireGuardPublicKey } from '../../model/keys.js';
import type { AddressPlan } from '../../model/messages.js';
import { type Instant, minutes, plus } from '../../model/time.js';

/** What an exit and a supernode's own egress have in common: one device, its NAT, one peer per session. */

/** 1420 bytes: an IPv6 header, UDP and WireGuard around it still fit 1500. */
export const INNER_MTU = 1420;
/** An offer is for a tunnel that comes up now; the slack is for clocks that are a little off. */
const OFFER_LIFE = minutes(10);
const MEGA = 1_000_000;

/** What an exit's owner lends and keeps to himself, as far as the kernel sees to it. */
export interface ExitTerms {
  readonly forbidden: readonly Cidr[];
  readonly forbidOnLink: boolean;
  readonly limits: ConnectionLimits;
  /** Mbit/s in each direction; 0 for no limit. */
  readonly mbps: number;
  readonly sessionMbps: number;
}

/** A supernode's egress: its neighbours are its provider's other customers, and its line is a server's. */
export const EGRESS_TERMS: ExitTerms = {
  forbidden: [],
  forbidOnLink: false,
  limits: { newPerSession: 200, newInAll: 0, openPerSession: 4096 },
  mbps: 0,
  sessionMbps: 0,
};

export function exitDevice(
  name: InterfaceName,
  keys: WireGuardKeyPair,
  listenPort: Port | undefined,
  plan: AddressPlan,
  ipv6: boolean,
  terms: ExitTerms,
): readonly Unit[] {
  const addresses = [
    `${plan.gatewayIpv4}/${prefixLength(plan.poolIpv4)}` as Cidr,
    `${plan.gatewayIpv6}/${prefixLength(plan.poolIpv6)}` as Cidr,
  ];
  return [
    { kind: 'device', name, privateKey: keys.privateKey, listenPort, mtu: INNER_MTU, addresses },
    {
      kind: 'egress',
      device: name,
      sources: [plan.poolIpv4, plan.poolIpv6],
      ipv6,
      gateways: [plan.gatewayIpv4, plan.gatewayIpv6],
      forbidden: terms.forbidden,
      forbidOnLink: terms.forbidOnLink,
      limits: terms.limits,
    },
    ...(terms.mbps + terms.sessionMbps === 0
      ? []
      : [{ kind: 'shaper', device: name, rate: terms.mbps * MEGA, sessionRate: terms.sessionMbps * MEGA } as const]),
  ];
}

/**
 * A session's peer at an exit, where it is set up. RELAY_UPDATE says where it sends to, whenever there was one: a
 * SETUP_EXIT that renews the session does not take a direct path back to the relay.
 */
export function exitPeer(device: InterfaceName, session: readonly Desired[]): readonly PeerUnit[] {
  const setup = session.find((one) => one.kind === 'setup-exit');
  if (setup === undefined) return [];
  const { endpoint, keepalive } = session.find((one) => one.kind === 'relay-update') ?? setup;
  return [
    {
      kind: 'peer',
      device,
      publicKey: setup.clientKey,
      presharedKey: setup.preshared?.keys[0],
      allowedIps: [hostCidr(setup.inner.ipv4), hostCidr(setup.inner.ipv6)],
      endpoint,
      keepalive,
    },
  ];
}

/**
 * SETUP_EXIT is answered with the exit's signed offer, everything else with nothing. The offer has a ciphertext where the
 * command had a key for it and the exit takes part in it.
 */
export function exitAnswer(
  command: Command,
  record: SessionRecord,
  identity: Identity,
  exitKey: WireGuardPublicKey,
  ipv6: boolean,
  statements: Statements,
  now: Instant,
): CommandDone {
  const { desired, session } = command;
  if (desired.kind !== 'setup-exit') return { offer: undefined };
  const preshared = presharedOf(record);
  const offer = statements.signOffer(identity, {
    session,
    clientKey: desired.clientKey,
    exitKey,
    inner: desired.inner,
    ...(desired.kemKey.length > 0 && preshared !== undefined
      ? { kemCiphertext: preshared.ciphertext, kemKeyHash: preshared.kemKeyHash }
      : { kemCiphertext: new Uint8Array(0), kemKeyHash: new Uint8Array(0) }),
    expires: plus(now, OFFER_LIFE),
    ipv6,
  });
  return { offer };
}

/** The pre-shared key on a session's record; undefined where it has none. */
export const presharedOf = (record: SessionRecord): Preshared | undefined =>
  record.desired.find((one) => one.kind === 'setup-exit')?.preshared;

/**
 * Whether an exit takes a session's addresses: the gateway it answers on, inner ones of the overlay's pools, and nobody
 * else's. WireGuard would hand an address that two peers claim to the later one. Throws VpndError `exit-refused`.
 */
export function checkInner(setup: SetupExit, plan: AddressPlan, others: readonly SessionRecord[]): void {
  const { ipv4, ipv6, gatewayIpv4, gatewayIpv6 } = setup.inner;
  if (gatewayIpv4 !== plan.gatewayIpv4 || gatewayIpv6 !== plan.gatewayIpv6) {
    throw new VpndError('exit-refused', 'the session names another gateway address than the one this exit answers on');
  }
  if (
    !contains(plan.poolIpv4, ipv4) ||
    !contains(plan.poolIpv6, ipv6) ||
    ipv4 === gatewayIpv4 ||
    ipv6 === gatewayIpv6
  ) {
    throw new VpndError('exit-refused', 'the session names inner addresses outside the overlay’s pools');
  }
  for (const other of others) {
    for (const desired of other.desired) {
      if (desired.kind !== 'setup-exit') continue;
      const taken = desired.inner.ipv4 === ipv4 || desired.inner.ipv6 === ipv6 || desired.clientKey === setup.clientKey;
      if (taken) throw new VpndError('exit-refused', 'another session at this exit has the same inner address or key');
    }
  }
}
