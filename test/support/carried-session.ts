import { createHash } from 'node:crypto';
import { memoryDataPlane } from '../../dataplane/memory.js';
import { CommandExecutor, type Projection } from '../../src/core/executor.js';
import type { UdpSocket } from '../../src/core/ports/udp-sockets.js';
import { type Endpoint, formatHostPort, type IpAddress, type Port } from '../../src/model/address.js';
import type { CommandDone, Desired, RelayNext } from '../../src/model/command.js';
import type { UnitId } from '../../src/model/dataplane.js';
import type { CommandId, PeerId, SessionId } from '../../src/model/ids.js';
import { hours, ms } from '../../src/model/time.js';
import { type Carrier as ClientCarrier, openCarrier } from '../../src/roles/client/carrier.js';
import { Carrier, withoutCarried } from '../../src/roles/supernode/carrier.js';
import type { CarrierLimits } from '../../src/roles/supernode/carrier-limits.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { endpoint } from './fake-stream.js';
import { MachineSockets } from './overlay-world/memory-udp-sockets.js';
import { testLog } from './test-log.js';
import { testMetrics } from './test-metrics.js';
import { VirtualClock } from './virtual-clock.js';

export const SESSION = '5e'.repeat(16) as SessionId;
export const CLIENT = 'client' as PeerId;
/** The supernode's address, and the relay port that faces the client. */
export const SUPERNODE = '198.51.100.10' as IpAddress;
export const FRONT = endpoint(`${SUPERNODE}:40001`);
/** The relay port that faces the exit, where the exit is at the same supernode. */
export const BACK = endpoint(`${SUPERNODE}:40002`);
export const HOP: RelayNext = { kind: 'hop', endpoint: endpoint('198.51.100.20:40077') };
export const PAIR: RelayNext = { kind: 'pair', port: BACK.port };
export const CLIENT_IP = '203.0.113.5' as IpAddress;
export const EXIT_IP = '192.0.2.9' as IpAddress;
/** Where WireGuard sends from on the client. */
export const WIREGUARD = endpoint('127.0.0.1:51820');

const ONE_WAY = ms(10);

/** A datagram of WireGuard's: a transport message with `n` in it. */
export const datagram = (n: number): Uint8Array => {
  const packet = new Uint8Array(64);
  packet[0] = 4;
  new DataView(packet.buffer).setUint32(16, n);
  return packet;
};
export const numberIn = (packet: Uint8Array): number =>
  new DataView(packet.buffer, packet.byteOffset, packet.byteLength).getUint32(16);

/** One client's session between both real carriers, over the twins of everything else. */
export async function carriedSession(options: { readonly next?: RelayNext; limits?: Partial<CarrierLimits> } = {}) {
  const { next = HOP } = options;
  const clock = new VirtualClock();
  const log = testLog();
  const kernel = memoryDataPlane();
  const alive = { alive: true, running: true };
  /** What arrived: at the far side of the supernode, and at the client's WireGuard. */
  const sent: { from: string; to: string; n: number }[] = [];
  const atWireGuard: number[] = [];
  const supernode = new MachineSockets({
    carry: (from, to, packet) =>
      void sent.push({ from: formatHostPort(from), to: formatHostPort(to), n: numberIn(packet) }),
  });
  const client = new MachineSockets({
    carry: (_from, to, packet) => {
      if (formatHostPort(to) === formatHostPort(WIREGUARD)) atWireGuard.push(numberIn(packet));
    },
  });
  const state = { owner: CLIENT, clientReads: true, streamUp: true, bindFails: undefined as Error | undefined };

  const crypto = { sha256: (bytes: Uint8Array) => new Uint8Array(createHash('sha256').update(bytes).digest()) };
  const projection: Projection = {
    fixed: () => [],
    units: (record) =>
      record.desired.flatMap((desired) =>
        desired.kind === 'relay-setup' && desired.vouched.length > 0
          ? [{ ...desired, kind: 'relay', session: record.session }]
          : [],
      ),
    answer: (): CommandDone => ({ offer: undefined }),
    ended: (session) => carrier.ended(session),
  };
  const executor: CommandExecutor = new CommandExecutor(
    { clock, crypto, ledger: openMemoryStore().ledger, dataplane: kernel, log, metrics: testMetrics() },
    withoutCarried(projection, {
      carries: (session) => carrier.carries(session),
      learned: (port) => carrier.learned(port),
    }),
  );
  const sockets = supernode.of(alive, (ip) => ip === SUPERNODE || ip === '0.0.0.0');
  const carrier: Carrier = new Carrier({
    clock,
    log,
    dataplane: kernel,
    udpSockets: {
      bind: async (local, listener): Promise<UdpSocket> => {
        if (state.bindFails !== undefined) throw state.bindFails;
        return sockets.bind(local, listener);
      },
    },
    front: (session) => (session === SESSION ? { client: state.owner, port: FRONT.port } : undefined),
    record: (session) => executor.session(session),
    reproject: (session, change) => executor.reproject(session, change),
    offer: (to, message) => {
      if (to !== CLIENT || message.kind !== 'datagrams' || !state.streamUp || !state.clientReads) return false;
      clock.after(ONE_WAY, () => clientCarrier.arrived(message.packets));
      return true;
    },
    ...(options.limits && { limits: options.limits }),
  });
  const clientCarrier: ClientCarrier = await openCarrier(
    {
      session: SESSION,
      line: () => ({
        upstream: {
          sendDatagrams: (session, packets) => {
            if (!state.streamUp) return 'closed';
            clock.after(ONE_WAY, () => carrier.datagrams(CLIENT, session, packets));
            return 'sent';
          },
        },
      }),
    },
    { clock, log, udpSockets: client.of(alive, (ip) => ip === '127.0.0.1') },
  );

  let generation = 0;
  let serial = 0;
  const order = (desired: Desired) =>
    executor.execute(
      {
        id: (++serial).toString(16).padStart(32, '0') as CommandId,
        session: SESSION,
        generation: ++generation,
        lease: hours(1),
        desired,
      },
      'self' as PeerId,
    );
  /** RELAY_SETUP of the session's ports, also as a renewal. */
  const setUp = async (more: { vouched?: readonly IpAddress[]; next?: RelayNext } = {}) => {
    const localIp = SUPERNODE;
    const vouched = more.vouched ?? [CLIENT_IP];
    await order({ kind: 'relay-setup', port: FRONT.port, localIp, vouched, next: more.next ?? next });
    if (next.kind !== 'pair') return;
    const back: RelayNext = { kind: 'pair', port: FRONT.port };
    await order({ kind: 'relay-setup', port: BACK.port, localIp, vouched: [EXIT_IP], next: back });
  };
  await executor.start();
  await setUp();

  return {
    clock,
    log,
    kernel,
    executor,
    carrier,
    clientCarrier,
    state,
    order,
    setUp,
    sent,
    atWireGuard,
    /** Relay ports that the kernel plays. */
    kernelPorts: () => [FRONT.port, BACK.port].filter((port) => kernel.unit(`relay/${port}` as UnitId) !== undefined),
    /** WireGuard on the client sends, while its peer's endpoint is the client's carrier. */
    wireguardSends: (n: number, from: Endpoint = WIREGUARD) =>
      client.deliver(datagram(n), from, clientCarrier.endpoint),
    /** Any bytes, from any program of the client's machine. */
    programSends: (bytes: Uint8Array, from: Endpoint) => client.deliver(bytes, from, clientCarrier.endpoint),
    /** A datagram comes to a relay port by UDP; says who had it. */
    udpArrives: (n: number, from: Endpoint, to: Endpoint): 'kernel' | 'process' | 'nobody' => {
      if (kernel.unit(`relay/${to.port}` as UnitId) !== undefined) {
        kernel.learn(to.port, from);
        return 'kernel';
      }
      return supernode.deliver(datagram(n), from, to) ? 'process' : 'nobody';
    },
  };
}

export const portOf = (n: number): Port => n as Port;
