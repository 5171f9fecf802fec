import { activeSession, statusOf } from '../../../chaos/overlay/index.js';
import { Path, Privacy } from '../../../src/gen/vpnd/v1/types_pb.js';
import { bareWireguard } from './bare-wireguard.js';
import type { TunnelBed } from './bed.js';
import { n2nTunnel } from './n2n.js';
import { nebula } from './nebula.js';
import { openvpn } from './openvpn.js';
import { tinc } from './tinc.js';

/** A way for the client's connections to the web server. */
export interface TunnelSystem {
  readonly name: string;
  readonly cipher: string;
  readonly mtu: number;
  readonly setUp: string;
  start(bed: TunnelBed): Promise<RunningTunnel>;
}

export interface RunningTunnel {
  /** Everything of the system's own that runs, on all machines. */
  pids(): readonly number[];
  /** The client's part alone: ended, and started again while everybody else goes on. */
  readonly client?: { end(): Promise<void>; begin(): Promise<void> };
  /** What stands in the middle, a relay or who tells where others are: killed, and there again. */
  readonly middle?: { kill(): Promise<void>; restore(): Promise<void> };
  stop(): Promise<void>;
}

const none: TunnelSystem = {
  name: 'no tunnel',
  cipher: 'none',
  mtu: 1500,
  setUp: 'plain TCP between the same machines',
  start: async () => ({ pids: () => [], stop: async () => undefined }),
};

const REQUEST_LIMIT_MS = 60_000;

function vpnd(name: string, path: Path): TunnelSystem {
  return {
    name,
    cipher: 'ChaCha20-Poly1305 (wireguard-go), a pre-shared key from ML-KEM-768',
    mtu: 1420,
    setUp: `vpnd up, kill switch on, no standby, path ${path === Path.DIRECT ? 'direct' : 'through one supernode'}`,
    start: async ({ overlay }) => {
      const { client, exit, a } = overlay;
      const begin = async () => {
        await client.api.up({ privacy: Privacy.AUTO }, AbortSignal.timeout(REQUEST_LIMIT_MS));
      };
      const end = async () => {
        await client.api.down();
      };
      await begin();
      await client.api.setPath({ path }, AbortSignal.timeout(REQUEST_LIMIT_MS));
      await statusOf(client, (status) => activeSession(status)?.path === path);
      return {
        pids: () => [client, exit, a].flatMap((node) => node.host.pids()),
        client: { begin, end },
        middle: {
          kill: () => a.crash(),
          restore: async () => {
            await a.start();
            await statusOf(client, (status) => status.problems.length === 0);
          },
        },
        stop: end,
      };
    },
  };
}

export const TUNNEL_NAMES = {
  none: none.name,
  bare: bareWireguard.name,
  direct: 'vpnd, direct',
  relayed: 'vpnd, relayed',
} as const;

export const TUNNEL_SYSTEMS: readonly TunnelSystem[] = [
  none,
  bareWireguard,
  vpnd(TUNNEL_NAMES.direct, Path.DIRECT),
  vpnd(TUNNEL_NAMES.relayed, Path.RELAY),
  nebula('direct'),
  nebula('relayed'),
  tinc,
  openvpn,
  n2nTunnel,
];
