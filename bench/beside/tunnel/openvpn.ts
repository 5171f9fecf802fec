import { createHash, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Spawned } from '../../../chaos/lab/index.js';
import { addressOf, DEVICE, deviceUp, endAll, INNER, type TunnelBed } from './bed.js';
import type { TunnelSystem } from './systems.js';

const MTU = 1420;
const PORT = '1194';

/** Point to point with certificates known by their fingerprints, as its manual recommends for two ends. */
export const openvpn: TunnelSystem = {
  name: 'openvpn',
  cipher: 'AES-256-GCM',
  mtu: MTU,
  setUp: `UDP, TLS with --peer-fingerprint, --tun-mtu ${MTU}, in user space (Debian's kernel module dco is no package of the distribution's kernel)`,
  start: async (bed) => {
    const processes = await startOpenvpn(bed);
    await bed.routeWeb();
    await bed.reaches();
    return { pids: () => processes.map(({ pid }) => pid), stop: () => endAll(processes) };
  },
};

async function startOpenvpn(bed: TunnelBed): Promise<readonly Spawned[]> {
  const names = ['exit', 'client'] as const;
  const file = (name: string, what: 'crt' | 'key') => join(bed.overlay.lab.directory, `openvpn-${name}.${what}`);
  for (const name of names) {
    if (existsSync(file(name, 'crt'))) continue;
    await bed.overlay.lab.internet.exec([
      ...['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-subj', `/CN=${name}`, '-days', '30', '-keyout', file(name, 'key'), '-out', file(name, 'crt')],
    ]);
  }
  const processes: Spawned[] = [];
  for (const name of names) {
    const other = name === 'exit' ? 'client' : 'exit';
    const side = name === 'exit' ? ['--tls-server', '--dh', 'none'] : ['--tls-client'];
    const running = bed[name].spawn([
      ...['openvpn', '--dev', DEVICE, '--dev-type', 'tun', '--proto', 'udp4', '--port', PORT, ...side],
      ...(name === 'client' ? ['--remote', addressOf(bed.exit), PORT] : ['--float']),
      ...['--ifconfig', INNER[name], INNER[other], '--tun-mtu', String(MTU), '--mssfix', '0'],
      ...['--cert', file(name, 'crt'), '--key', file(name, 'key')],
      ...['--peer-fingerprint', fingerprint(file(other, 'crt')), '--data-ciphers', 'AES-256-GCM'],
      ...['--keepalive', '10', '60', '--verb', '1'],
    ]);
    processes.push(running);
    await deviceUp(bed[name], running);
  }
  const client = processes[1];
  await client?.waitForLine(/Initialization Sequence Completed/);
  return processes;
}

function fingerprint(certificate: string): string {
  const { raw } = new X509Certificate(readFileSync(certificate));
  return (createHash('sha256').update(raw).digest('hex').match(/../g) ?? []).join(':');
}
