import type { SessionRecord } from '../../../src/core/ports/store.js';
import type { Endpoint } from '../../../src/model/address.js';
import type { Unit, UnitId } from '../../../src/model/dataplane.js';
import type { WireGuardPublicKey } from '../../../src/model/keys.js';
import type { Machine } from './machine.js';

interface Front {
  readonly session: string;
  readonly port?: number;
  readonly inner: { readonly ipv4: string };
}
interface Back {
  readonly session: string;
  readonly port?: number;
}

/** What is wrong with a world at this moment, in words; empty when nothing is. */
export function violations(machines: readonly Machine[]): readonly string[] {
  return [
    ...machines.flatMap(kernelIsFoldOfLedger),
    ...machines.flatMap(portsHaveOneOwner),
    ...innerAddressesHaveOneOwner(machines),
    ...machines.flatMap(wantedTunnelHoldsTraffic),
  ];
}

const inForce = (machine: Machine): readonly SessionRecord[] =>
  machine.store.ledger.sessions().filter((one) => one.desired.length > 0);

/** Of daemons that run: one that died half-way is compared again once it is back. */
function kernelIsFoldOfLedger(machine: Machine): readonly string[] {
  if (machine.process === undefined || (machine.role !== 'supernode' && machine.role !== 'exit')) return [];
  const said = inForce(machine).flatMap((record) =>
    record.desired.flatMap((one) => {
      switch (one.kind) {
        case 'relay-setup': {
          const { port, localIp, vouched, next } = one;
          // Parked while the session goes direct, or in the daemon's hands while it goes inside its client's stream.
          const carried = isCarried(machine, { ip: localIp, port });
          if (vouched.length === 0 || carried) return [];
          return [JSON.stringify(['relay', record.session, port, localIp, vouched, next])];
        }
        case 'setup-exit': {
          // RELAY_UPDATE changes it in two steps, and WireGuard roams in between.
          const moves = record.desired.some((other) => other.kind === 'relay-update');
          const endpoint = moves ? endpointOf(machine, one.clientKey) : one.endpoint;
          return [JSON.stringify(['peer', one.clientKey, `${one.inner.ipv4}/32`, endpoint])];
        }
        case 'relay-update':
          return record.desired.some((other) => other.kind === 'setup-exit') ? [] : ['relay-update of nothing'];
        default:
          return [one.kind];
      }
    }),
  );
  const held = machine.kernel.units().flatMap(shown);
  return difference(said, held).map((what) => `${machine.name}: kernel and ledger differ: ${what}`);
}

function shown(unit: Unit): readonly string[] {
  if (unit.kind === 'relay')
    return [JSON.stringify(['relay', unit.session, unit.port, unit.localIp, unit.vouched, unit.next])];
  // One without inner addresses only opens a way.
  if (unit.kind === 'peer' && unit.allowedIps.length > 0)
    return [JSON.stringify(['peer', unit.publicKey, unit.allowedIps[0], unit.endpoint])];
  return [];
}

const isCarried = ({ kernel, host }: Machine, at: Endpoint): boolean =>
  kernel.unit(`relay/${at.port}` as UnitId) === undefined && host.sockets.has(at);

const endpointOf = (machine: Machine, key: WireGuardPublicKey): Endpoint | undefined =>
  machine.kernel.units().flatMap((unit) => (unit.kind === 'peer' && unit.publicKey === key ? [unit.endpoint] : []))[0];

function portsHaveOneOwner(machine: Machine): readonly string[] {
  const { facts } = machine.store;
  const books = [
    ...facts.names('front/').map((name) => facts.get<Front>(name)),
    ...facts.names('back/').map((name) => facts.get<Back>(name)),
  ];
  const inBooks = books.flatMap((one) => (one?.port === undefined ? [] : [one.port]));
  const inLedger = inForce(machine).flatMap((one) =>
    one.desired.flatMap((desired) => (desired.kind === 'relay-setup' ? [desired.port] : [])),
  );
  return [...twice(inBooks), ...twice(inLedger)].map((port) => `${machine.name}: relay port ${port} has two owners`);
}

function innerAddressesHaveOneOwner(machines: readonly Machine[]): readonly string[] {
  const given = machines.flatMap(({ store: { facts } }) =>
    facts.names('front/').map((name) => facts.get<Front>(name)?.inner.ipv4 ?? ''),
  );
  const atExits = machines.flatMap((machine) => {
    const taken = inForce(machine).flatMap((one) =>
      one.desired.flatMap((desired) => (desired.kind === 'setup-exit' ? [desired.inner.ipv4] : [])),
    );
    return twice(taken).map((ip) => `${machine.name}: inner address ${ip} has two peers`);
  });
  return [...twice(given).map((ip) => `inner address ${ip} was given to two sessions`), ...atExits];
}

/** Once a wish was granted, and until `vpnd down`, nothing leaves outside the tunnel. */
function wantedTunnelHoldsTraffic(machine: Machine): readonly string[] {
  if (machine.role !== 'client' || !machine.powered || machine.booting || !machine.wantsTunnel) return [];
  const kinds = new Set(machine.kernel.units().map(({ kind }) => kind));
  return [
    ...(kinds.has('full-tunnel') ? [] : [`${machine.name}: a tunnel is wanted and its routes are gone`]),
    ...(kinds.has('kill-switch') ? [] : [`${machine.name}: a tunnel is wanted and there is no kill switch`]),
  ];
}

const twice = <T>(list: readonly T[]): readonly T[] => list.filter((one, i) => list.indexOf(one) < i);

function difference(a: readonly string[], b: readonly string[]): readonly string[] {
  return [
    ...a.filter((one) => !b.includes(one)).map((one) => `only the ledger has ${one}`),
    ...b.filter((one) => !a.includes(one)).map((one) => `only the kernel has ${one}`),
  ];
}
