import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Spawned } from '../../../chaos/lab/index.js';
import { addressOf, DEVICE, deviceUp, endAll, INNER, type TunnelBed } from './bed.js';
import type { TunnelSystem } from './systems.js';

const PORT = 4242;
const ANYTHING = [{ port: 'any', proto: 'any', host: 'any' }];

interface NebulaPlan {
  readonly mtu: number;
  /** Ends may reach nobody but the relay. */
  readonly relayed: boolean;
}

/** A lighthouse on the supernode's machine, which is the relay as well. */
export function nebula(path: 'direct' | 'relayed'): TunnelSystem {
  // A relayed packet has two headers and two tags: with 1420 inside it would not fit 1500.
  const mtu = path === 'direct' ? 1420 : 1380;
  return {
    name: `nebula, ${path}`,
    cipher: 'AES-256-GCM',
    mtu,
    setUp: `cipher aes (its default), tun.mtu ${mtu}, buffers of 10 MB as its example suggests; the web server as an unsafe route by way of the exit`,
    start: async (bed) => {
      const running = new Map<Node, Spawned>();
      await makeConfigs(bed, { mtu, relayed: path === 'relayed' });
      const begin = async (name: Node) => {
        const one = bed[name].spawn(['nebula', '-config', configFile(bed, name)]);
        running.set(name, one);
        await deviceUp(bed[name], one);
      };
      const end = async (name: Node) => endAll([running.get(name)].filter((one) => one !== undefined));
      for (const name of NODES) await begin(name);
      await bed.reaches();
      return {
        pids: () => [...running.values()].map(({ pid }) => pid),
        client: { begin: () => begin('client'), end: () => end('client') },
        middle: { kill: () => end('relay'), restore: () => begin('relay') },
        stop: () => endAll([...running.values()]),
      };
    },
  };
}

const NODES = ['relay', 'exit', 'client'] as const;
type Node = (typeof NODES)[number];

const configFile = (bed: TunnelBed, name: Node): string => join(bed.overlay.lab.directory, `nebula-${name}.yml`);

async function makeConfigs(bed: TunnelBed, plan: NebulaPlan): Promise<void> {
  const directory = bed.overlay.lab.directory;
  const cert = (...args: string[]) => bed.overlay.lab.internet.exec(['nebula-cert', ...args]);
  const file = (name: string) => join(directory, name);
  // JSON is YAML.
  for (const name of NODES) writeFileSync(configFile(bed, name), JSON.stringify(configOf(bed, name, plan, file)));
  if (existsSync(file('ca.crt'))) return;
  await cert('ca', '-name', 'bench', '-out-crt', file('ca.crt'), '-out-key', file('ca.key'));
  for (const name of NODES) {
    const subnets = name === 'exit' ? ['-subnets', `${bed.webIp}/32`] : [];
    await cert(
      ...['sign', '-name', name, '-ip', `${INNER[name]}/24`, ...subnets],
      ...['-ca-crt', file('ca.crt'), '-ca-key', file('ca.key')],
      ...['-out-crt', file(`${name}.crt`), '-out-key', file(`${name}.key`)],
    );
  }
}

function configOf(bed: TunnelBed, name: Node, { mtu, relayed }: NebulaPlan, file: (name: string) => string): object {
  const isRelay = name === 'relay';
  const relay = addressOf(bed.relay);
  return {
    pki: { ca: file('ca.crt'), cert: file(`${name}.crt`), key: file(`${name}.key`) },
    static_host_map: isRelay ? {} : { [INNER.relay]: [`${relay}:${PORT}`] },
    lighthouse: {
      am_lighthouse: isRelay,
      interval: 10,
      hosts: isRelay ? [] : [INNER.relay],
      ...(relayed && !isRelay ? { remote_allow_list: { '0.0.0.0/0': false, [`${relay}/32`]: true } } : {}),
    },
    listen: { host: '0.0.0.0', port: PORT, read_buffer: 10_485_760, write_buffer: 10_485_760 },
    punchy: { punch: true, respond: true },
    relay: { am_relay: isRelay, use_relays: true, ...(relayed && name === 'exit' ? { relays: [INNER.relay] } : {}) },
    cipher: 'aes',
    tun: {
      dev: DEVICE,
      mtu,
      ...(name === 'client' ? { unsafe_routes: [{ route: `${bed.webIp}/32`, via: INNER.exit, mtu }] } : {}),
    },
    logging: { level: 'warning', format: 'text' },
    firewall: { conntrack: {}, outbound: ANYTHING, inbound: ANYTHING },
  };
}
