import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Host, Spawned } from '../../../chaos/lab/index.js';
import { addressOf, DEVICE, deviceUp, endAll, INNER } from './bed.js';
import type { TunnelSystem } from './systems.js';

const PORT = 51899;
const MTU = 1420;

/** The same engine that vpnd drives here, set up by hand. */
export const bareWireguard: TunnelSystem = {
  name: 'bare wireguard-go',
  cipher: 'ChaCha20-Poly1305',
  mtu: MTU,
  setUp: 'wireguard-go, wg set, ip route',
  start: async (bed) => {
    const ends = [
      { host: bed.client, inner: INNER.client, other: bed.exit, allowed: '0.0.0.0/0' },
      { host: bed.exit, inner: INNER.exit, other: bed.client, allowed: `${INNER.client}/32` },
    ];
    const started = await Promise.all(ends.map(({ host }) => engineOn(host)));
    for (const [i, { host, inner, other, allowed }] of ends.entries()) {
      const peer = started[1 - i]?.publicKey ?? '';
      const endpoint = `${addressOf(other)}:${PORT}`;
      const key = join(host.directory, 'bench-wg.key');
      writeFileSync(key, started[i]?.privateKey ?? '', { mode: 0o600 });
      await host.exec([
        ...['wg', 'set', DEVICE, 'private-key', key, 'listen-port', String(PORT)],
        ...['peer', peer, 'allowed-ips', allowed, 'endpoint', endpoint],
      ]);
      await host.ip(`addr add ${inner}/24 dev ${DEVICE}`, `link set ${DEVICE} mtu ${MTU} up`);
    }
    await bed.routeWeb();
    const engines = started.map(({ engine }) => engine);
    return { pids: () => engines.map(({ pid }) => pid), stop: () => endAll(engines) };
  },
};

async function engineOn(host: Host): Promise<{ engine: Spawned; privateKey: string; publicKey: string }> {
  const engine = host.spawn(['wireguard-go', '--foreground', DEVICE]);
  await deviceUp(host, engine);
  const privateKey = await host.exec(['wg', 'genkey']);
  const publicKey = (await host.exec(['wg', 'pubkey'], { stdin: privateKey })).trim();
  return { engine, privateKey, publicKey };
}
