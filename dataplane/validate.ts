import { familyOf, type IpAddress, parseCidr, parseIp, prefixLength, sameEndpoint } from '../src/model/address.js';
import {
  type EgressUnit,
  type FullTunnelUnit,
  type InterfaceName,
  type KillSwitchUnit,
  type PeerUnit,
  parseInterfaceName,
  type RelayUnit,
  type ShaperUnit,
  type Unit,
  type UnitId,
  unitIdOf,
} from '../src/model/dataplane.js';
import { VpndError } from '../src/model/errors.js';
import { parseWireGuardPrivateKey, parseWireGuardPublicKey } from '../src/model/keys.js';
import { isNeverAHost } from '../src/model/never-a-host.js';
import { isNotPublic } from './special-addresses.js';

/**
 * Throws VpndError `bad-config` for a unit that must never reach the kernel. The parsers of src/model have seen these
 * values already; this is the last door, and what passes it is written into rule sets as text.
 */
export function checkUnit(unit: Unit): void {
  switch (unit.kind) {
    case 'device':
      checkName(unit, unit.name);
      if (!parseWireGuardPrivateKey(unit.privateKey).ok) refuse(unit, 'its private key is not 32 bytes in base64');
      if (unit.listenPort !== undefined) checkPort(unit, unit.listenPort);
      if (!Number.isInteger(unit.mtu) || unit.mtu < 576 || unit.mtu > 65_535) refuse(unit, `MTU ${unit.mtu}`);
      for (const address of unit.addresses) if (!parseCidr(address).ok) refuse(unit, `address ${address}`);
      if (unit.mark !== undefined && !isMark(unit.mark)) refuse(unit, `mark ${unit.mark}`);
      return;
    case 'peer':
      checkPeer(unit);
      return;
    case 'relay':
      checkRelay(unit);
      return;
    case 'egress':
      checkEgress(unit);
      return;
    case 'full-tunnel':
      checkFullTunnel(unit);
      return;
    case 'shaper':
      checkShaper(unit);
      return;
    case 'kill-switch':
      checkKillSwitch(unit);
      return;
  }
}

/**
 * What the kernel cannot hold together: a unit on a device that nobody declares, a pair of relay ports of two address
 * families, two tunnels with one routing table. `isDevice` says which devices exist besides.
 */
export function checkTogether(
  units: ReadonlyMap<UnitId, Unit>,
  put: readonly Unit[],
  isDevice: (name: InterfaceName) => boolean,
) {
  for (const unit of put) {
    switch (unit.kind) {
      case 'peer':
      case 'egress':
      case 'shaper':
      case 'full-tunnel':
        if (!units.has(`device/${unit.device}` as UnitId) && !isDevice(unit.device)) {
          refuse(unit, `there is no device ${unit.device}`);
        }
        if (unit.kind === 'full-tunnel') checkOwnTable(unit, units);
        break;
      case 'relay': {
        if (unit.next.kind === 'hop') break;
        const other = units.get(`relay/${unit.next.port}` as UnitId);
        if (other?.kind === 'relay' && familyOf(other.localIp) !== familyOf(unit.localIp)) {
          refuse(unit, `its pair, port ${unit.next.port}, is of the other address family`);
        }
        break;
      }
      case 'device':
      case 'kill-switch':
        break;
    }
  }
}

function checkOwnTable(unit: FullTunnelUnit, units: ReadonlyMap<UnitId, Unit>): void {
  for (const other of units.values()) {
    if (other.kind !== 'full-tunnel' || other.device === unit.device || other.table !== unit.table) continue;
    refuse(unit, `table ${unit.table} is that of ${other.device}`);
  }
}

function checkPeer(unit: PeerUnit): void {
  checkName(unit, unit.device);
  if (!parseWireGuardPublicKey(unit.publicKey).ok) refuse(unit, 'its public key is not 32 bytes in base64');
  if (unit.presharedKey !== undefined && !parseWireGuardPublicKey(unit.presharedKey).ok) {
    refuse(unit, 'its pre-shared key is not 32 bytes in base64');
  }
  for (const network of unit.allowedIps) if (!parseCidr(network).ok) refuse(unit, `allowed IP ${network}`);
  if (unit.endpoint !== undefined) {
    checkAddress(unit, unit.endpoint.ip);
    checkPort(unit, unit.endpoint.port);
  }
  if (!Number.isInteger(unit.keepalive) || unit.keepalive < 0 || unit.keepalive > 65_535) {
    refuse(unit, `keepalive ${unit.keepalive}`);
  }
}

/**
 * A relay that forwards wherever it is told would let strangers reach this machine's loopback and its neighbours
 * (CVE-2020-26262 in coturn). A private next hop passes only where this supernode itself has a private address.
 */
function checkRelay(unit: RelayUnit): void {
  checkPort(unit, unit.port);
  const family = familyOf(unit.localIp);
  for (const ip of [unit.localIp, ...unit.vouched]) {
    checkAddress(unit, ip);
    if (familyOf(ip) !== family) refuse(unit, `${ip} is not of the family of ${unit.localIp}`);
    if (isNeverAHost(ip)) refuse(unit, `${ip} is no address to relay for`);
  }
  if (unit.next.kind === 'pair') {
    checkPort(unit, unit.next.port);
    if (unit.next.port === unit.port) refuse(unit, 'it is its own pair');
    return;
  }
  const { ip, port } = unit.next.endpoint;
  checkAddress(unit, ip);
  checkPort(unit, port);
  if (familyOf(ip) !== family) refuse(unit, `${ip} is not of the family of ${unit.localIp}`);
  if (isNeverAHost(ip)) refuse(unit, `${ip} is no address to relay to`);
  if (isNotPublic(ip) && !isNotPublic(unit.localIp)) refuse(unit, `${ip} is a private address to relay to`);
  if (ip === unit.localIp) refuse(unit, `${ip} is this supernode itself`);
}

function checkEgress(unit: EgressUnit): void {
  checkName(unit, unit.device);
  for (const network of unit.sources) {
    if (!parseCidr(network).ok || prefixLength(network) === 0) refuse(unit, `source ${network}`);
  }
  for (const network of unit.routes ?? []) {
    if (!parseCidr(network).ok || prefixLength(network) === 0) refuse(unit, `route ${network}`);
  }
  for (const ip of unit.gateways) checkAddress(unit, ip);
  for (const network of unit.forbidden) if (!parseCidr(network).ok) refuse(unit, `forbidden network ${network}`);
  for (const limit of Object.values(unit.limits)) {
    if (!Number.isInteger(limit) || limit < 0 || limit > MOST_CONNECTIONS) refuse(unit, `limit ${limit}`);
  }
}

/** More than a machine's table of connections holds, and less than overflows nft's numbers. */
const MOST_CONNECTIONS = 10_000_000;
/** 1 Tbit/s. */
const MOST_BITS = 1e12;

function checkShaper(unit: ShaperUnit): void {
  checkName(unit, unit.device);
  for (const rate of [unit.rate, unit.sessionRate]) {
    if (!Number.isFinite(rate) || rate < 0 || rate > MOST_BITS) refuse(unit, `rate ${rate}`);
  }
  if (unit.rate === 0 && unit.sessionRate === 0) refuse(unit, 'it limits nothing');
}

function checkFullTunnel(unit: FullTunnelUnit): void {
  checkName(unit, unit.device);
  if (!Number.isInteger(unit.table) || unit.table < 1 || unit.table > 4_294_967_295)
    refuse(unit, `table ${unit.table}`);
  if (unit.table >= 253 && unit.table <= 255) refuse(unit, `table ${unit.table} is the kernel's own`);
  for (const ip of unit.sources) checkAddress(unit, ip);
  for (const { endpoint } of unit.exempt) {
    checkAddress(unit, endpoint.ip);
    checkPort(unit, endpoint.port);
  }
  if (unit.pin === undefined) return;
  for (const { ip, port } of [unit.pin.from, unit.pin.to]) {
    checkAddress(unit, ip);
    checkPort(unit, port);
    if (isNeverAHost(ip)) refuse(unit, `${ip} is no address of a peer`);
  }
  if (familyOf(unit.pin.from.ip) !== familyOf(unit.pin.to.ip)) refuse(unit, 'its pin is between address families');
  if (sameEndpoint(unit.pin.from, unit.pin.to)) refuse(unit, 'its pin leads to where it comes from');
}

/** Wide exclusions are their user's own wish; one of everything would be no kill switch at all. */
function checkKillSwitch(unit: KillSwitchUnit): void {
  for (const name of unit.devices) checkName(unit, name);
  for (const { ip, port } of [...unit.endpoints, ...unit.own.map(({ endpoint }) => endpoint)]) {
    checkAddress(unit, ip);
    checkPort(unit, port);
  }
  for (const network of unit.exclude) {
    if (!parseCidr(network).ok || prefixLength(network) === 0) refuse(unit, `excluded network ${network}`);
  }
}

const isMark = (mark: number): boolean => Number.isInteger(mark) && mark > 0 && mark <= 4_294_967_295;

function checkName(unit: Unit, name: string): void {
  if (parseInterfaceName(name) === undefined) refuse(unit, `interface name ${JSON.stringify(name)}`);
}

function checkAddress(unit: Unit, ip: IpAddress): void {
  const parsed = parseIp(ip);
  if (!parsed.ok || parsed.value !== ip) refuse(unit, `address ${JSON.stringify(ip)}`);
}

function checkPort(unit: Unit, port: number): void {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) refuse(unit, `port ${port}`);
}

function refuse(unit: Unit, why: string): never {
  const id = unitIdOf(unit);
  throw new VpndError('bad-config', `${unit.kind === 'peer' ? `peer of ${unit.device}` : id} is refused: ${why}`, {
    details: { unit: id },
  });
}
