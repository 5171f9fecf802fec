/** Packets of n2n's first protocol version, as Debian's edges send them (seen in a capture of two of those). */
const COMMUNITY = 'bench';
const REGISTER = 1;
const PACKET = 3;
const HEADER_BYTES = 84;
const AT = { type: 1, community: 4, source: 20, destination: 26, publicFamily: 32, privateFamily: 52, kind: 72 };
const IPV4 = 2;
/** A packet's contents are compressed, and this is nothing, compressed (LZO). */
const NOTHING = '110000';

/** Six bytes, locally administered; one for each end of each session. */
const mac = (side: 1 | 2, session: number): readonly number[] => [2, side, 0, 0, session >> 8, session & 0xff];

/** In hexadecimal: what each end's packets begin with, then what each says to register. */
export function n2nWords(session: number): readonly [string, string, string, string] {
  const left = mac(1, session);
  const right = mac(2, session);
  const nobody = [0, 0, 0, 0, 0, 0];
  return [
    header(PACKET, left, right),
    header(PACKET, right, left),
    header(REGISTER, left, nobody) + NOTHING,
    header(REGISTER, right, nobody) + NOTHING,
  ];
}

function header(type: number, source: readonly number[], destination: readonly number[]): string {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes[0] = 1;
  bytes[AT.type] = type;
  bytes.write(COMMUNITY, AT.community, 'latin1');
  bytes.set(source, AT.source);
  bytes.set(destination, AT.destination);
  bytes[AT.publicFamily] = IPV4;
  bytes[AT.privateFamily] = IPV4;
  bytes[AT.kind] = type === PACKET ? 1 : 0;
  return bytes.toString('hex');
}
