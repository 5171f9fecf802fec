import {
  addressesOn,
  type Fleet,
  kernelResidue,
  type OverlayNode,
  relayElements,
  relayPorts,
  wireGuardDevices,
  wireGuardPeers,
} from '../overlay/index.js';
import { disagreements, type Kernels } from './agreement.js';

/** Looks at kernels and at /metrics of a whole fleet. Each answers with what is wrong, in words; empty when all is well. */

/** Interfaces of clients' tunnels begin so. */
const CLIENT_DEVICE = 'wg-client';
const METRICS_PORT = { base: 9470, supernode: 9471, exit: 9472, client: 9473 } as const;

export async function kernelsOf(fleet: Fleet): Promise<Kernels> {
  const all = <T>(nodes: readonly OverlayNode[], look: (node: OverlayNode) => Promise<T>) =>
    Promise.all(nodes.map(look));
  const [clients, exits, supernodes] = await Promise.all([
    all(fleet.clients, async (node) => ({
      name: node.name,
      devices: (await wireGuardDevices(node)).filter(({ name }) => name.startsWith(CLIENT_DEVICE)),
      addresses: await addressesOn(node, CLIENT_DEVICE),
    })),
    all(fleet.exits, async (node) => ({ name: node.name, devices: await wireGuardDevices(node) })),
    all(fleet.supernodes, async (node) => ({
      name: node.name,
      addresses: [node.host.ipv4 ?? '', node.host.ipv6 ?? ''].filter((ip) => ip !== ''),
      ports: await relayPorts(node),
      devices: await wireGuardDevices(node),
    })),
  ]);
  const egress = supernodes.filter(({ devices }) => devices.length > 0);
  const exitAddresses = fleet.exits.map(({ name }) => fleet.home(name).publicIpv4);
  return { clients, exits: [...exits, ...egress], supernodes, exitAddresses };
}

/** Where kernels contradict each other. */
export const kernelTrouble = async (fleet: Fleet): Promise<string[]> => disagreements(await kernelsOf(fleet));

/** What is left of sessions anywhere, after the last of them was ended. */
export async function leftovers(fleet: Fleet): Promise<string[]> {
  const told = async (node: OverlayNode, what: Promise<readonly string[]>) =>
    (await what).map((line) => `${node.name} still has ${line.trim()}`);
  const found = await Promise.all([
    ...fleet.clients.map((node) => told(node, kernelResidue(node, FOREIGN_LINE))),
    ...fleet.exits.map((node) =>
      told(
        node,
        wireGuardPeers(node).then((keys) => keys.map((key) => `peer ${key}`)),
      ),
    ),
    ...fleet.supernodes.map((node) =>
      told(
        node,
        Promise.all([relayElements(node), wireGuardPeers(node)]).then(([elements, peers]) => [
          ...(elements > 0 ? [`${elements} elements in its relay's maps`] : []),
          ...peers.map((key) => `peer ${key}`),
        ]),
      ),
    ),
  ]);
  return found.flat();
}

/** What an administrator may have on any machine, with names and numbers that are not ours. */
const FOREIGN = {
  nft: 'table inet mine { chain input { type filter hook input priority 5; policy accept; tcp dport 9999 drop; }; }\n',
  rule: 'from 10.99.0.0/16 lookup 99 priority 99',
};
const FOREIGN_LINE = /^99:|\bmine\d?\b/;

export async function leaveForeignState({ host }: OverlayNode): Promise<void> {
  await Promise.all([
    host.nft(FOREIGN.nft),
    host.ip(`rule add ${FOREIGN.rule}`, 'link add mine0 type veth peer name mine1', 'addr add 10.99.0.1/16 dev mine0'),
  ]);
}

/** As it is at present, as one text. Throws when some of it is gone. */
export async function foreignState({ host }: OverlayNode): Promise<string> {
  const parts = await Promise.all([
    host.exec(['nft', 'list', 'table', 'inet', 'mine']),
    host.exec(['ip', 'rule', 'show', 'priority', '99']),
    host.exec(['ip', '-br', 'addr', 'show', 'mine0']),
  ]);
  return parts.join('');
}

/** A metric of a node without labels; undefined where it says nothing of that name. */
export async function metric(node: OverlayNode, name: string): Promise<number | undefined> {
  const url = `http://127.0.0.1:${METRICS_PORT[node.role]}/metrics`;
  const text = await node.host.exec(['curl', '-sS', '--max-time', '10', url]);
  const found = [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? ([0-9.e+-]+)$`, 'gm'))];
  return found.length === 0 ? undefined : found.reduce((sum, [, value]) => sum + Number(value), 0);
}

/** What nodes say of themselves on /metrics, beside what kernels hold, when no session is left. */
export async function metricsTrouble(fleet: Fleet): Promise<string[]> {
  const expectations = [
    ...fleet.exits.flatMap((node) => [[node, 'wg_peers_count'] as const, [node, 'sessions_active'] as const]),
    ...fleet.supernodes.flatMap((node) => [
      [node, 'relay_sessions_active'] as const,
      [node, 'sessions_active'] as const,
    ]),
  ];
  const told = await Promise.all(
    expectations.map(async ([node, name]) => {
      const value = await metric(node, name);
      return value === undefined || value === 0 ? [] : [`${node.name} says ${name} ${value}, and there is none`];
    }),
  );
  return told.flat();
}
