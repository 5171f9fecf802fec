import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Spawned } from '../../../chaos/lab/index.js';
import { addressOf, DEVICE, deviceUp, endAll, INNER, type TunnelBed } from './bed.js';
import type { TunnelSystem } from './systems.js';

const MTU = 1420;

/** Router mode, as its manual begins with. */
export const tinc: TunnelSystem = {
  name: 'tinc 1.0',
  cipher: 'AES-256-CBC, HMAC-SHA-256 (its defaults)',
  mtu: MTU,
  setUp: 'Mode router, UDP, the client connects to the exit; the web server as a subnet of the exit',
  start: async (bed) => {
    const running = new Map<Node, Spawned>();
    const directories = { client: join(bed.client.directory, 'tinc'), exit: join(bed.exit.directory, 'tinc') };
    if (!existsSync(directories.exit)) await makeTinc(bed, directories);
    const begin = async (name: Node) => {
      const pidFile = join(directories[name], 'pid');
      const one = bed[name].spawn(['tincd', '-c', directories[name], '-D', `--pidfile=${pidFile}`]);
      running.set(name, one);
      await deviceUp(bed[name], one);
      await bed[name].ip(`addr add ${INNER[name]}/24 dev ${DEVICE}`, `link set ${DEVICE} mtu ${MTU} up`);
      if (name === 'client') await bed.routeWeb();
    };
    for (const name of ['exit', 'client'] as const) await begin(name);
    await bed.reaches();
    return {
      pids: () => [...running.values()].map(({ pid }) => pid),
      client: {
        begin: () => begin('client'),
        end: async () => endAll([running.get('client')].filter((one) => one !== undefined)),
      },
      stop: () => endAll([...running.values()]),
    };
  },
};

type Node = 'client' | 'exit';

async function makeTinc(bed: TunnelBed, directories: Readonly<Record<Node, string>>): Promise<void> {
  const names = ['client', 'exit'] as const;
  for (const name of names) {
    const directory = directories[name];
    mkdirSync(join(directory, 'hosts'), { recursive: true });
    const connect = name === 'client' ? 'ConnectTo = exit\n' : '';
    writeFileSync(
      join(directory, 'tinc.conf'),
      `Name = ${name}\nAddressFamily = ipv4\nInterface = ${DEVICE}\n${connect}`,
    );
    const subnets = [INNER[name], ...(name === 'exit' ? [bed.webIp] : [])].map((ip) => `Subnet = ${ip}/32\n`);
    writeFileSync(join(directory, 'hosts', name), `Address = ${addressOf(bed[name])}\n${subnets.join('')}`);
    await bed[name].exec(['tincd', '-c', directory, '-K2048']);
  }
  for (const name of names) {
    for (const other of names) {
      const text = readFileSync(join(directories[other], 'hosts', other), 'utf8');
      writeFileSync(join(directories[name], 'hosts', other), text);
    }
  }
}
