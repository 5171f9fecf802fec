import t from 'tap';
import type { PacketKind } from '../../chaos/lab/packets.js';
import { type RecordedPacket, TCP } from '../../chaos/lab/pcap.js';
import { CANARY } from '../../chaos/leaks/canary.js';
import { type Classified, leaksIn } from '../../chaos/leaks/judge.js';

const SUPERNODE = '198.51.100.31';
const KNOWN = { base: { ip: '198.51.100.10', port: 7400 }, supernodes: new Set([SUPERNODE]), exits: new Set<string>() };

function sent(kind: PacketKind, port: number, to = SUPERNODE, toPort = 443, bytes = new Uint8Array(8)): Classified {
  const packet = {
    at: 5,
    bytes,
    payload: bytes,
    etherType: 0x0800,
    ip: { from: '192.168.102.2', to, protocol: TCP },
    ports: { from: port, to: toPort },
  };
  return { kind, packet: packet as unknown as RecordedPacket };
}

t.test('a connection that was TLS is so to its end, also where the recording has a gap', async (t) => {
  t.same(leaksIn([sent('tls', 40_000), sent('tcp', 40_000), sent('tls', 40_000)], KNOWN, 0), []);
});

t.test('whatever else is said over TCP is told, to a supernode, too', async (t) => {
  const all = [
    sent('tls', 40_000),
    sent('tcp', 40_001),
    sent('tls', 40_002, '203.0.113.80'),
    sent('tcp', 40_003, SUPERNODE, 80),
  ];
  t.match(leaksIn(all, KNOWN, 0), [/port 40001 > /, /> 203\.0\.113\.80/, /port 40003 > .* port 80$/]);
  const canary = new TextEncoder().encode(`x${CANARY}`);
  t.match(leaksIn([sent('tls', 40_000), sent('tcp', 40_000, SUPERNODE, 443, canary)], KNOWN, 0), [/^a canary/]);
  t.same(leaksIn(all, KNOWN, 6), [], 'before it began');
});
