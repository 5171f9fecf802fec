import type { Host, Spawned } from '../../../chaos/lab/index.js';
import { launch } from '../../../dataplane/launch.js';
import { RelayTable } from '../../../dataplane/relay.js';
import { createRunner, type Runner, TOOL_DIRECTORIES } from '../../../dataplane/run.js';
import type { IpAddress, Port } from '../../../src/model/address.js';
import type { RelayUnit } from '../../../src/model/dataplane.js';
import type { SessionId } from '../../../src/model/ids.js';
import { systemClock } from '../../../src/roles/common/system-clock.js';
import { ends, PORTS, RELAY_IP, type RelayBed } from './bed.js';
import { n2nWords } from './n2n-packets.js';

/** A way for packets from the left end to the right one and back. */
export interface RelaySystem {
  readonly name: string;
  /** For the report: how it was set up, in words. */
  readonly setUp: string;
  /** Numbers of sessions that it is measured with. */
  readonly sessions: readonly number[];
  /** Packets of one direction on their way: as many as it takes without losing some, of 32, 64 and 256. */
  window(sessions: number): number;
  /** Bytes that a packet carries besides, on the way to and from the relay. */
  readonly extraBytes: string;
  /** Get ready; answers with the generator's lines, the relay's processes and how to undo it. */
  start(bed: RelayBed, sessions: number): Promise<Running>;
}

export interface Running {
  readonly flows: readonly string[];
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

const ALL = [1, 1_000, 10_000];
const NOTHING_TO_STOP = { pids: [], stop: async () => undefined };
const count = (sessions: number): number[] => Array.from({ length: sessions }, (_, i) => i);

/** No relay at all: what generating, one cable and receiving cost, which is taken off all others. */
const direct: RelaySystem = {
  name: 'no relay (one cable)',
  setUp: 'a veth cable from end to end',
  sessions: ALL,
  window: () => 256,
  extraBytes: '0',
  start: async (bed, sessions) => {
    await bed.send('direct');
    return { flows: plainFlows(sessions), ...NOTHING_TO_STOP };
  },
};

const routing: RelaySystem = {
  name: 'plain routing',
  setUp: 'net.ipv4.ip_forward=1, no rule, no connection tracking',
  sessions: ALL,
  window: () => 256,
  extraBytes: '0',
  start: async (bed, sessions) => {
    await bed.send('routed');
    return { flows: plainFlows(sessions), ...NOTHING_TO_STOP };
  },
};

const plainFlows = (sessions: number): string[] =>
  count(sessions).map((i) => {
    const { left, right } = ends(i);
    return `${left} ${right} ${PORTS.right} ${right} ${left} ${PORTS.left}`;
  });

const FIRST = { left: 20_000, right: 40_000 };

/** Two ports for each session, joined: a client and an exit at the same supernode. */
const vpnd: RelaySystem = {
  name: 'vpnd, one supernode',
  setUp:
    'its own relay table (dataplane/relay.ts), a pair of ports for each session, both endpoints learned from packets',
  sessions: ALL,
  window: () => 256,
  extraBytes: '0',
  start: (bed, sessions) =>
    relayTable(
      bed.relay,
      count(sessions).flatMap((i) => {
        const { left, right } = ends(i);
        return [
          unit(FIRST.left + i, left, { kind: 'pair', port: (FIRST.right + i) as Port }),
          unit(FIRST.right + i, right, { kind: 'pair', port: (FIRST.left + i) as Port }),
        ];
      }),
      count(sessions).map((i) => {
        const { left, right } = ends(i);
        return `${left} ${RELAY_IP} ${FIRST.left + i} ${right} ${RELAY_IP} ${FIRST.right + i}`;
      }),
    ),
};

/** One of the two supernodes between a client and an exit of another region: one port for each session and a known next hop. */
const vpndHop: RelaySystem = {
  name: 'vpnd, one of two supernodes',
  setUp: 'its own relay table, a port for each session, the next hop known and the other endpoint learned',
  sessions: ALL,
  window: () => 256,
  extraBytes: '0',
  start: (bed, sessions) =>
    relayTable(
      bed.relay,
      count(sessions).map((i) => {
        const { left, right } = ends(i);
        const endpoint = { ip: right as IpAddress, port: PORTS.right as Port };
        return unit(FIRST.left + i, left, { kind: 'hop', endpoint });
      }),
      count(sessions).map((i) => {
        const { left, right } = ends(i);
        return `${left} ${RELAY_IP} ${FIRST.left + i} ${right} ${RELAY_IP} ${FIRST.left + i}`;
      }),
    ),
};

const unit = (port: number, vouched: string, next: RelayUnit['next']): RelayUnit => ({
  kind: 'relay',
  session: `bench-${port}` as SessionId,
  port: port as Port,
  localIp: RELAY_IP as IpAddress,
  vouched: [vouched as IpAddress],
  next,
});

async function relayTable(relay: Host, units: readonly RelayUnit[], flows: readonly string[]): Promise<Running> {
  const table = new RelayTable(runnerOn(relay), 'ip', 'vpnd_relay', systemClock());
  await table.apply(units, []);
  return {
    flows,
    pids: [],
    stop: async () => {
      await relay.nft('table ip vpnd_relay {}\ndelete table ip vpnd_relay\n');
    },
  };
}

/** The data plane's own way of running programs, on another machine of the lab. */
const runnerOn = (host: Host): Runner =>
  createRunner(TOOL_DIRECTORIES, (what) => {
    const [path = '', ...args] = host.inside([what.path, ...what.args]);
    return launch({ ...what, path, args });
  });

const TURN_PORT = 3478;
/** Not for a server: no authentication, and peers of every address. Nothing of either is on the way of a packet. */
const TURN_ARGS = [
  ...['-n', '--no-auth', '--no-tls', '--no-dtls', '--no-cli', '--no-tcp', '--no-tcp-relay', '--realm', 'bench'],
  ...['--listening-ip', RELAY_IP, '--relay-ip', RELAY_IP, '--min-port', '20000', '--max-port', '64000'],
  ...['--log-file', '/dev/null', '--no-stdout-log', '--relay-threads', '2'],
];

const coturn: RelaySystem = {
  name: 'coturn',
  setUp: `turnserver ${TURN_ARGS.join(' ')}; channels, no authentication, both cores (a relay thread for each)`,
  sessions: ALL,
  // It gives a socket that relays for one allocation 64 KB: more than 32 packets at once do not fit.
  window: (sessions) => (sessions === 1 ? 32 : 256),
  extraBytes: '4 on the client’s side',
  start: async (bed, sessions) => {
    const server = bed.relay.spawn(['turnserver', ...TURN_ARGS]);
    await listening(bed.relay, TURN_PORT, server);
    const flows = count(sessions).map((i) => {
      const { left, right } = ends(i);
      return `${left} ${RELAY_IP} ${TURN_PORT} ${right} 0.0.0.0 0`;
    });
    return { flows: ['turn', ...flows], pids: [server.pid], stop: () => ended(server) };
  },
};

const N2N_PORT = 7777;

const n2n: RelaySystem = {
  name: 'n2n supernode',
  setUp: `supernode -l ${N2N_PORT}; every end a registered edge of one community`,
  // It looks for the addressee in a list, one after the other: ten thousand sessions are twenty thousand edges.
  sessions: [1, 1_000],
  window: () => 32,
  extraBytes: '84',
  start: async (bed, sessions) => {
    const server = bed.relay.spawn(['supernode', '-l', String(N2N_PORT)]);
    await listening(bed.relay, N2N_PORT, server);
    const flows = count(sessions).map((i) => {
      const { left, right } = ends(i);
      const way = `${left} ${RELAY_IP} ${N2N_PORT} ${right} ${RELAY_IP} ${N2N_PORT}`;
      return `${way} ${n2nWords(i).join(' ')}`;
    });
    return { flows, pids: [server.pid], stop: () => ended(server) };
  },
};

export const RELAY_SYSTEMS: readonly RelaySystem[] = [direct, routing, vpnd, vpndHop, coturn, n2n];
export const NAMES = {
  direct: direct.name,
  routing: routing.name,
  vpnd: vpnd.name,
  vpndHop: vpndHop.name,
  coturn: coturn.name,
} as const;

async function listening(host: Host, port: number, server: Spawned): Promise<void> {
  for (let looks = 0; looks < 500; looks++) {
    if (!server.running) throw new Error(`${server.argv[0]} ended: ${server.lines().slice(-5).join('\n')}`);
    const sockets = await host.exec(['ss', '-Hlun', 'sport', '=', `:${port}`]);
    if (sockets.trim() !== '') return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${server.argv[0]} does not listen on port ${port}`);
}

async function ended(server: Spawned): Promise<void> {
  server.kill('SIGKILL');
  await server.exited;
}
