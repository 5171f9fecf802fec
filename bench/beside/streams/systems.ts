import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Host, Lab, Spawned } from '../../../chaos/lab/index.js';
import type { OverlayNode } from '../../../chaos/overlay/index.js';
import { openSodium } from '../../../src/identity/sodium.js';
import type { Region } from '../../../src/model/role.js';
import { instantOf } from '../../../src/model/time.js';
import type { Asked } from '../../load/crowd.js';
import { type Member, type OverlayKeys, signMembers } from '../../load/members.js';
import { type Generator, startGenerators } from '../../streams/generators.js';
import { MeasuredSupernode, SUPERNODE, startBase } from '../../streams/supernode.js';
import type { BrokerLoad } from './broker-load.js';

/** Connections to one server process, and what is asked over them. */
export interface Crowded {
  join(connections: number): Promise<void>;
  ask(): Promise<Asked>;
  leave(): Promise<void>;
}

/** A server that thousands are connected to. */
export interface StreamServer {
  readonly name: string;
  readonly setUp: string;
  /** Starts it anew. */
  start(): Promise<{ readonly pid: number; readonly crowd: Crowded; stop(): Promise<void> }>;
}

export const ASKS = { times: 200, everyMs: 20 } as const;
export const OURS = 'vpnd supernode';
const AT_ONCE = 32;
const REGION = 'eu' as Region;
const LOAD = fileURLToPath(new URL('./broker-load.js', import.meta.url));

/** The real daemon without a data plane, as bench-streams measures it. */
export async function vpndServer(lab: Lab, connections: number): Promise<StreamServer> {
  const base: OverlayNode = await startBase(lab);
  const supernode = await MeasuredSupernode.start(lab, base, { region: REGION, capacity: 20_000, extra: [] });
  const { crypto } = await openSodium();
  const wanted = { count: connections, exits: 0, region: REGION, now: instantOf(Date.now()) };
  const { keys, members } = signMembers(base.stateDir, supernode.node.stateDir, wanted, crypto);
  await supernode.node.stop();
  return {
    name: OURS,
    setUp:
      'the real daemon, --dataplane memory, Node’s flags of deploy/systemd; a stream of gRPC over TLS 1.3, authenticated, with heartbeats every 10 s from either side',
    start: async () => {
      supernode.restart();
      await supernode.node.process.waitForLine(/ ready: /);
      const crowd = vpndCrowd(supernode, keys, members);
      return { pid: supernode.pid, crowd, stop: async () => void (await supernode.node.stop()) };
    },
  };
}

function vpndCrowd(supernode: MeasuredSupernode, keys: OverlayKeys, members: readonly Member[]): Crowded {
  let generator: Generator | undefined;
  const own = (): Generator => {
    if (generator === undefined) throw new Error('nobody has joined');
    return generator;
  };
  return {
    join: async (count) => {
      const options = { processes: 1, region: REGION, atOnce: AT_ONCE };
      [generator] = await startGenerators(supernode.host, SUPERNODE, keys, members.slice(0, count), options);
      await own().tell('join', { first: 0, count });
    },
    ask: () => {
      const { times, everyMs } = ASKS;
      return own().tell('ask', { first: 0, count: own().streams, times, every: everyMs, atOnce: 1 });
    },
    leave: async () => {
      await generator?.end();
    },
  };
}

/** A broker on a machine of its own, its load beside it as for vpnd. */
export async function broker(lab: Lab, protocol: 'nats' | 'mqtt'): Promise<StreamServer> {
  const ip = protocol === 'nats' ? '198.51.100.61' : '198.51.100.62';
  const host = await lab.publicHost(protocol, { ipv4: ip });
  await host.sysctl('net.core.somaxconn=4096');
  const [cert, key] = ['server.crt', 'server.key'].map((name) => join(host.directory, name));
  await host.exec([
    ...['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-subj', `/CN=${ip}`, '-days', '30', '-keyout', key ?? '', '-out', cert ?? ''],
  ]);
  const config = join(host.directory, 'broker.conf');
  const port = protocol === 'nats' ? 4222 : 8883;
  const lines =
    protocol === 'nats'
      ? [`listen: "${ip}:${port}"`, 'ping_interval: "10s"', `tls { cert_file: "${cert}", key_file: "${key}" }`]
      : [
          ...[`listener ${port} ${ip}`, 'user root', 'allow_anonymous true', 'persistence false', 'log_dest none'],
          ...[`certfile ${cert}`, `keyfile ${key}`, 'max_connections -1', 'set_tcp_nodelay true'],
        ];
  writeFileSync(config, `${lines.join('\n')}\n`);
  const argv = protocol === 'nats' ? ['nats-server', '-c', config] : ['mosquitto', '-c', config];
  return {
    name: protocol === 'nats' ? 'nats-server' : 'mosquitto',
    setUp: `${argv[0]}, ${lines.filter((line) => !/file|listen/.test(line)).join(', ')}; TLS 1.3 with P-256, nobody authenticated, a ping every 10 s`,
    start: async () => {
      const server = host.spawn(argv);
      await listening(host, port, server);
      const load = { protocol, host: ip, port, ca: cert ?? '', atOnce: AT_ONCE, asks: ASKS };
      return {
        pid: server.pid,
        crowd: brokerCrowd(host, load),
        stop: async () => {
          server.kill('SIGKILL');
          await server.exited;
        },
      };
    },
  };
}

function brokerCrowd(host: Host, load: Omit<BrokerLoad, 'connections'>): Crowded {
  let generator: Spawned | undefined;
  return {
    join: async (connections) => {
      const stdin = JSON.stringify({ ...load, connections } satisfies BrokerLoad);
      generator = host.spawn([process.execPath, LOAD], { stdin });
      await generator.waitForLine(/^joined /, 120_000);
    },
    ask: async () => {
      generator?.kill('SIGUSR2');
      const found = await generator?.waitForLine(/^asked (.*)$/, 60_000);
      return JSON.parse(found?.[1] ?? '{}') as Asked;
    },
    leave: async () => {
      await generator?.stop();
    },
  };
}

async function listening(host: Host, port: number, server: Spawned): Promise<void> {
  for (let looks = 0; looks < 500; looks++) {
    if (!server.running) throw new Error(`${server.argv[0]} ended: ${server.lines().slice(-5).join('\n')}`);
    if ((await host.exec(['ss', '-Hltn', 'sport', '=', `:${port}`])).trim() !== '') return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${server.argv[0]} does not listen on port ${port}`);
}
