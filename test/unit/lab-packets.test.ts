import t from 'tap';
import { summarize } from '../../chaos/lab/packets.js';
import { IPV4, parsePcap, type RecordedPacket, TCP, UDP } from '../../chaos/lab/pcap.js';

const [CLIENT, SERVER] = ['192.0.2.1', '192.0.2.2'];

function udp(payload: readonly number[], port = 40001): RecordedPacket {
  const bytes = Uint8Array.from(payload);
  const ip = { from: CLIENT, to: SERVER, protocol: UDP };
  return { at: 0, bytes, etherType: IPV4, ip, ports: { from: 51820, to: port }, payload: bytes };
}

function tcp(sequence: number, payload: readonly number[], syn = false): RecordedPacket {
  const bytes = Uint8Array.from(payload);
  const ip = { from: CLIENT, to: SERVER, protocol: TCP };
  return {
    at: 0,
    bytes,
    etherType: IPV4,
    ip,
    ports: { from: 50000, to: 443 },
    tcp: { sequence: sequence >>> 0, syn },
    payload: bytes,
  };
}

/** An application-data record of TLS with a body that says nothing. */
function record(length: number): number[] {
  return [0x17, 3, 3, length >> 8, length & 255, ...new Array<number>(length).fill(0xaa)];
}

const kinds = (packets: readonly RecordedPacket[]) => summarize(packets).packets.map(({ kind }) => kind);
const filled = (type: number, length: number, reserved = 0) => [
  type,
  reserved,
  0,
  0,
  ...new Array<number>(length - 4).fill(7),
];

t.test('WireGuard is told by its message types, reserved bytes and lengths', async (t) => {
  t.same(
    kinds([udp(filled(1, 148)), udp(filled(2, 92)), udp(filled(3, 64)), udp(filled(4, 32)), udp(filled(4, 1456))]),
    new Array(5).fill('wireguard'),
  );
  t.same(
    kinds([udp(filled(1, 147)), udp(filled(4, 33)), udp(filled(4, 16)), udp(filled(5, 64)), udp(filled(4, 32, 1))]),
    new Array(5).fill('udp'),
  );
  t.same(kinds([udp([1, 2, 3], 53)]), ['dns']);
});

t.test('TLS records may begin and end anywhere in a segment', async (t) => {
  const stream = [...record(300), ...record(5), ...record(700)];
  const cuts = [0, 3, 290, 306, 309, 1000, stream.length];
  // The sequence numbers wrap in the middle.
  const start = 2 ** 32 - 307;
  const segments = cuts.slice(1).map((end, i) => tcp(start + (cuts[i] ?? 0), stream.slice(cuts[i], end)));
  const opening = tcp(start - 1, [], true);
  t.same(kinds([opening, ...segments]), ['tcp-control', ...new Array(6).fill('tls')]);

  const [one, two, three, ...others] = segments;
  if (!one || !two || !three) throw new Error('too few segments');
  t.notOk(kinds([opening, one, three, two, one, ...others]).includes('tcp'), 'in any order, and more than once');
  t.same(kinds([opening, one, three, ...others]).slice(1), ['tls', ...new Array(4).fill('tcp')], 'not past a gap');
});

t.test('a full WireGuard packet is not padded beyond the MTU, and vpnd’s probes are known', async (t) => {
  const probe = (length: number) => [...Buffer.from('VPNP'), ...new Array(length - 4).fill(1)];
  t.same(kinds([udp(filled(4, 1452)), udp(filled(4, 1451))]), ['wireguard', 'udp']);
  t.same(kinds([64, 125, 48, 49].map((length) => udp(probe(length)))), ['probe', 'probe', 'probe', 'udp']);
});

t.test('a foreign byte in a TLS stream is seen', async (t) => {
  const opening = tcp(99, [], true);
  t.same(kinds([opening, tcp(100, record(50)), tcp(155, [...Buffer.from('GET / HTTP/1.1')])]).slice(1), ['tls', 'tcp']);
  t.same(kinds([opening, tcp(100, [...record(50), ...Buffer.from('plain')])]).slice(1), ['tcp']);
});

t.test('a stream that was open before the recording is joined at a record', async (t) => {
  t.same(kinds([tcp(500, new Array(20).fill(0xaa)), tcp(520, record(9)), tcp(534, record(9))]), ['tcp', 'tls', 'tls']);
});

t.test('summaries count ports, name what is foreign, and find canaries', async (t) => {
  const summary = summarize([udp(filled(4, 32)), udp([...Buffer.from('my secret')], 9), tcp(1, [])]);
  t.same(summary.byKind, { wireguard: 1, udp: 1, 'tcp-control': 1 });
  t.equal(summary.udpPorts.get(51820), 2);
  t.equal(summary.tcpPorts.get(443), 1);
  t.same(summary.except('wireguard'), [
    'udp 192.0.2.1 port 51820 > 192.0.2.2 port 9, protocol 17, 9 bytes: 6d7920736563726574',
  ]);
  t.equal(summary.containing('secret'), 1);
  t.equal(summary.containing(Uint8Array.of(7, 7, 7)), 1);
});

t.test('recordings are read with Ethernet, raw and "any" headers, and when cut off', async (t) => {
  const six = Buffer.from(
    `6000000000091140${'20010db8000000000000000000000001'}${'20010db8000100000000000000000002'}c350003500090000ff`,
    'hex',
  );
  const four = Buffer.from('4500001d00000000401100000a0000010a000002c350003500090000ff', 'hex');
  const file = (linkType: number, header: string, packet: Buffer) => {
    const frame = Buffer.concat([Buffer.from(header, 'hex'), packet]);
    const head = Buffer.alloc(24);
    head.writeUInt32LE(0xa1b2c3d4, 0);
    head.writeUInt32LE(linkType, 20);
    const each = Buffer.alloc(16);
    each.writeUInt32LE(1_000_000, 0);
    each.writeUInt32LE(500_000, 4);
    each.writeUInt32LE(frame.length, 8);
    return Buffer.concat([head, each, frame, each, frame.subarray(0, 5)]);
  };
  const ethernet = parsePcap(file(1, '0000000000000000000000000800', Buffer.concat([four, Buffer.alloc(20)])));
  t.match(ethernet, [
    { at: 1_000_000.5, ip: { from: '10.0.0.1', to: '10.0.0.2', protocol: 17 }, ports: { from: 50000, to: 53 } },
  ]);
  t.same([...(ethernet[0]?.payload ?? [])], [255], 'without the padding of short frames');
  for (const [linkType, header] of [
    [101, ''],
    [113, `${'00'.repeat(14)}86dd`],
    [276, `86dd${'00'.repeat(18)}`],
  ] as const) {
    t.match(parsePcap(file(linkType, header, six)), [{ ip: { from: '2001:db8::1', to: '2001:db8:1::2' } }]);
  }
  t.same(parsePcap(Buffer.alloc(0)), []);
  t.throws(() => parsePcap(Buffer.alloc(24)), /pcap/);
});
