import type { RelayPort, WireGuardDevice } from '../overlay/index.js';

/** What the kernels of an overlay hold at one moment. */
export interface Kernels {
  readonly clients: readonly ClientKernel[];
  /** Exits, and supernodes that are exits too. */
  readonly exits: readonly ExitKernel[];
  readonly supernodes: readonly SupernodeKernel[];
  /** Public addresses of exits' homes: where a direct path leads. */
  readonly exitAddresses: readonly string[];
}

export interface ClientKernel {
  readonly name: string;
  readonly devices: readonly WireGuardDevice[];
  /** Inner addresses, by device. */
  readonly addresses: ReadonlyMap<string, readonly string[]>;
}

export interface ExitKernel {
  readonly name: string;
  readonly devices: readonly WireGuardDevice[];
}

export interface SupernodeKernel {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly ports: readonly RelayPort[];
}

interface Tunnel {
  readonly client: string;
  readonly device: WireGuardDevice;
  readonly inner: readonly string[];
}

/**
 * Where kernels contradict each other, in words; empty when they tell one story. No daemon is asked: commands are
 * orders to several kernels, so what each holds shows what the others must. Every tunnel has one exit whose peer has
 * its key and addresses; every exit's peer has a tunnel; relay ports form chains from a tunnel to its exit, and no other
 * ones are there; no address and no port has two owners.
 */
export function disagreements(kernels: Kernels): string[] {
  const tunnels = tunnelsOf(kernels);
  return [
    ...tunnels.flatMap((tunnel) => withoutExit(tunnel, kernels)),
    ...strayPeers(tunnels, kernels),
    ...sharedAddresses(tunnels, kernels),
    ...chains(tunnels, kernels),
  ];
}

/** A device that is kept for what was open over it has no peer, or will have none soon: it is no tunnel. */
function tunnelsOf({ clients }: Kernels): readonly Tunnel[] {
  return clients.flatMap(({ name, devices, addresses }) =>
    devices
      .filter(({ peers }) => peers.length > 0)
      .map((device) => ({ client: name, device, inner: addresses.get(device.name) ?? [] })),
  );
}

const called = ({ client, device }: Tunnel): string => `${client}'s tunnel ${device.name}`;

function withoutExit(tunnel: Tunnel, { exits }: Kernels): string[] {
  const [peer, ...more] = tunnel.device.peers;
  if (more.length > 0) return [`${called(tunnel)} has ${more.length + 1} peers`];
  const exit = exits.find(({ devices }) => devices.some(({ publicKey }) => publicKey === peer?.publicKey));
  if (exit === undefined) return [`${called(tunnel)} leads to a key that no exit has`];
  const there = exit.devices.flatMap(({ peers }) => peers).filter((one) => one.publicKey === tunnel.device.publicKey);
  const [own] = there;
  if (own === undefined || there.length > 1) return [`${exit.name} has ${there.length} peers for ${called(tunnel)}`];
  const allowed = new Set(own.allowed.map((one) => one.replace(/\/(32|128)$/, '')));
  const strange = [...allowed].filter((one) => !tunnel.inner.includes(one));
  return strange.length > 0
    ? [`${exit.name} lets ${called(tunnel)} use ${strange.join(', ')}, its addresses are ${tunnel.inner.join(', ')}`]
    : [];
}

function strayPeers(tunnels: readonly Tunnel[], { exits }: Kernels): string[] {
  const keys = new Set(tunnels.map(({ device }) => device.publicKey));
  return exits.flatMap(({ name, devices }) =>
    devices
      .flatMap(({ peers }) => peers)
      .filter(({ publicKey }) => !keys.has(publicKey))
      .map(({ publicKey, allowed }) => `${name} has peer ${publicKey.slice(0, 8)} (${allowed}), nobody's tunnel`),
  );
}

function sharedAddresses(tunnels: readonly Tunnel[], { exits }: Kernels): string[] {
  const owners = new Map<string, Set<string>>();
  const own = (address: string, key: string) =>
    owners.set(address, (owners.get(address) ?? new Set<string>()).add(key));
  for (const { device, inner } of tunnels) for (const address of inner) own(address, device.publicKey);
  for (const { devices } of exits) {
    for (const { publicKey, allowed } of devices.flatMap(({ peers }) => peers)) {
      for (const one of allowed) own(one.replace(/\/(32|128)$/, ''), publicKey);
    }
  }
  return [...owners].filter(([, keys]) => keys.size > 1).map(([address, keys]) => `${address} has ${keys.size} owners`);
}

/** Of every tunnel that leads to a relay port the chain to its exit; and ports that are on no chain. */
function chains(tunnels: readonly Tunnel[], kernels: Kernels): string[] {
  const { supernodes, exits } = kernels;
  const trouble: string[] = [];
  const used = new Set<string>();
  let elsewhere = 0;
  const at = (endpoint: string) => {
    const [, ip = '', port = ''] = /^\[?(.*?)\]?:(\d+)$/.exec(endpoint) ?? [];
    const node = supernodes.find(({ addresses }) => addresses.includes(ip));
    return { node, found: node?.ports.find((one) => one.port === Number(port)) };
  };
  const use = (tunnel: Tunnel, place: string) => {
    if (used.has(place)) trouble.push(`relay port ${place} serves two tunnels, one is ${called(tunnel)}`);
    used.add(place);
  };
  for (const tunnel of tunnels) {
    const [peer] = tunnel.device.peers;
    const endpoint = peer?.endpoint ?? '';
    const first = at(endpoint);
    if (first.node === undefined) {
      // To the exit itself, or carried inside a stream: relay ports are kept for the way back.
      elsewhere++;
      continue;
    }
    if (first.found === undefined) {
      trouble.push(`${called(tunnel)} leads to ${first.node.name} port ${endpoint}, which is no relay port`);
      continue;
    }
    use(tunnel, `${first.node.name}:${first.found.port}`);
    const exitPeer = exits
      .flatMap(({ devices }) => devices.flatMap(({ peers }) => peers))
      .find(({ publicKey }) => publicKey === tunnel.device.publicKey);
    const { next, out } = first.found;
    const second =
      next === undefined ? { node: first.node, found: first.node.ports.find((one) => one.port === out) } : at(next);
    if (second.node === undefined || second.found === undefined) {
      trouble.push(
        `${called(tunnel)}: behind ${first.node.name}:${first.found.port} is no relay port (${next ?? out})`,
      );
      continue;
    }
    use(tunnel, `${second.node.name}:${second.found.port}`);
    const there = `:${second.found.port}`;
    if (exitPeer !== undefined && !exitPeer.endpoint.endsWith(there) && exitPeer.endpoint !== '') {
      trouble.push(`${called(tunnel)} ends at ${second.node.name}${there}, its exit answers to ${exitPeer.endpoint}`);
    }
  }
  const unused = supernodes.flatMap(({ name, ports }) =>
    ports.map(({ port }) => `${name}:${port}`).filter((place) => !used.has(place)),
  );
  if (unused.length > 2 * elsewhere) trouble.push(`relay ports on nobody's way: ${unused.join(', ')}`);
  return trouble;
}
