import type { OverlayNode } from './node.js';

/** What the kernel of a node's machine holds, read from outside of every daemon. */

/** A WireGuard device, as `wg show all dump` tells of it. */
export interface WireGuardDevice {
  readonly name: string;
  readonly publicKey: string;
  readonly peers: readonly WireGuardPeer[];
}

export interface WireGuardPeer {
  readonly publicKey: string;
  /** "ip:port"; empty before there is one. */
  readonly endpoint: string;
  /** "ip/length". */
  readonly allowed: readonly string[];
}

/** A port of a blind relay, put together from the maps and sets of its table. */
export interface RelayPort {
  readonly port: number;
  /** The other supernode, "ip:port"; absent where packets leave by `out`, a second port here. */
  readonly next: string | undefined;
  /** From where the other supernode's packets are taken, "ip:port". */
  readonly hop: string | undefined;
  readonly out: number | undefined;
  readonly vouched: readonly string[];
}

/** Devices of a machine, by `wg`. */
export async function wireGuardDevices({ host }: OverlayNode): Promise<readonly WireGuardDevice[]> {
  return parseWireGuardDump(await host.exec(['wg', 'show', 'all', 'dump']));
}

/** `wg show all dump` (wg(8)): five fields are a device, nine a peer. */
export function parseWireGuardDump(text: string): readonly WireGuardDevice[] {
  const devices = new Map<string, { name: string; publicKey: string; peers: WireGuardPeer[] }>();
  for (const line of text.split('\n')) {
    const fields = line.split('\t');
    const [name = '', , second = ''] = fields;
    if (fields.length === 5) devices.set(name, { name, publicKey: second, peers: [] });
    if (fields.length !== 9) continue;
    const [, publicKey = '', , endpoint = '', allowed = ''] = fields;
    devices.get(name)?.peers.push({
      publicKey,
      endpoint: endpoint === '(none)' ? '' : endpoint,
      allowed: allowed === '(none)' || allowed === '' ? [] : allowed.split(','),
    });
  }
  return [...devices.values()];
}

/** Addresses on interfaces whose names begin so, by interface. */
export async function addressesOn({ host }: OverlayNode, prefix: string): Promise<ReadonlyMap<string, string[]>> {
  const shown = JSON.parse(await host.exec(['ip', '-j', 'addr', 'show'])) as {
    ifname: string;
    addr_info: { local: string; scope: string }[];
  }[];
  const ours = shown.filter(({ ifname }) => ifname?.startsWith(prefix));
  return new Map(
    ours.map(({ ifname, addr_info }) => [
      ifname,
      addr_info.filter(({ scope }) => scope !== 'link').map(({ local }) => local),
    ]),
  );
}

interface NftSet {
  readonly name: string;
  readonly table: string;
  /** `timeout`: elements go by themselves within seconds. */
  readonly flags?: readonly string[];
  readonly elem?: readonly unknown[];
}

async function relaySets({ host }: OverlayNode): Promise<readonly NftSet[]> {
  const listed = JSON.parse(await host.exec(['nft', '-j', 'list', 'ruleset'])) as {
    nftables: { map?: NftSet; set?: NftSet }[];
  };
  return listed.nftables
    .flatMap(({ map, set }) => [map, set])
    .filter((one) => one !== undefined)
    .filter((one) => one.table.startsWith('vpnd'));
}

/** Ports of a supernode's relay. */
export async function relayPorts(node: OverlayNode): Promise<readonly RelayPort[]> {
  const sets = await relaySets(node);
  const elements = (name: string) => sets.filter((one) => one.name === name).flatMap(({ elem = [] }) => elem);
  const parts = (key: unknown): string[] => {
    const inner = typeof key === 'object' && key !== null && 'concat' in key ? (key.concat as unknown[]) : [key];
    return inner.map(String);
  };
  const map = (name: string) =>
    new Map(elements(name).map((pair) => [Number((pair as unknown[])[0]), String((pair as unknown[])[1])]));
  const [ip, port, out] = [map('next_ip'), map('next_port'), map('out')];
  const hops = elements('hop').map(parts);
  const vouched = elements('vouched').map(parts);
  return elements('ours')
    .map(parts)
    .map(([, text = '']) => {
      const number = Number(text);
      const hop = hops.find(([, , own]) => own === text);
      const next = ip.get(number);
      return {
        port: number,
        next: next === undefined ? undefined : `${next}:${port.get(number) ?? ''}`,
        hop: hop === undefined ? undefined : `${hop[0]}:${hop[1]}`,
        out: out.has(number) ? Number(out.get(number)) : undefined,
        vouched: vouched.filter(([, own]) => own === text).map(([from = '']) => from),
      };
    });
}

/** Elements in the maps and sets of a relay's tables that stay until somebody removes them: what it holds of sessions. */
export async function relayElements(node: OverlayNode): Promise<number> {
  return (await relaySets(node))
    .filter(({ flags }) => flags?.includes('timeout') !== true)
    .reduce((sum, { elem = [] }) => sum + elem.length, 0);
}

/** Public keys of the peers on a node's WireGuard devices. */
export async function wireGuardPeers(node: OverlayNode): Promise<string[]> {
  return (await wireGuardDevices(node)).flatMap(({ peers }) => peers.map(({ publicKey }) => publicKey));
}

/** Interfaces, rules, routes and tables of ours, as lines; empty when nothing is left. `foreign`: lines that are not ours. */
export async function kernelResidue({ host }: OverlayNode, foreign = /(?!)/): Promise<string[]> {
  const [links, rules4, rules6, routes4, routes6, tables] = await Promise.all([
    host.exec(['ip', '-br', 'link', 'show']),
    host.exec(['ip', '-4', 'rule', 'show']),
    host.exec(['ip', '-6', 'rule', 'show']),
    host.exec(['ip', '-4', 'route', 'show', 'table', 'all']),
    host.exec(['ip', '-6', 'route', 'show', 'table', 'all']),
    host.exec(['nft', 'list', 'tables']),
  ]);
  const lines = (text: string) => text.split('\n').filter((line) => line.trim() !== '' && !foreign.test(line));
  const standard = /^(0|32766|32767):/;
  return [
    ...lines(links).filter((line) => /^(?:wg|vpnd)-/.test(line)),
    ...[...lines(rules4), ...lines(rules6)].filter((line) => !standard.test(line)),
    ...[...lines(routes4), ...lines(routes6)].filter((line) => /wg-|table 51820/.test(line)),
    ...lines(tables).filter((line) => /vpnd/.test(line)),
  ];
}
