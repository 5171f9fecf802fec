import type { Identity } from '../../core/ports/crypto.js';
import type { Datagrams } from '../../core/ports/datagrams.js';
import type { Random } from '../../core/ports/random.js';
import { parseProbeResponse, vouchInput, vouchRequest } from '../../core/probe.js';
import type { Endpoint, IpAddress, Port } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import { type Millis, seconds } from '../../model/time.js';

/** Long enough for a slow line, and over before anybody asks for an exit. */
const TIMEOUT: Millis = seconds(2);

/**
 * Show the supernode, by a signed datagram, which address this node's UDP comes from: some NATs send it from another
 * one than TCP. Answers with what the reflector saw per relay address, undefined where UDP does not get through.
 */
export async function vouchForUdp(
  ports: { readonly datagrams: Datagrams; readonly random: Random },
  identity: Identity,
  probeToken: Bytes,
  reflector: { readonly ips: readonly IpAddress[]; readonly port: Port },
): Promise<ReadonlyMap<IpAddress, Endpoint | undefined>> {
  const seen = new Map<IpAddress, Endpoint | undefined>();
  await Promise.all(
    reflector.ips.map(async (ip, i) => {
      const nonce = ports.random.bytes(16);
      const counter = i + 1;
      const signature = identity.sign(vouchInput(probeToken, nonce, counter));
      const question = vouchRequest(nonce, counter, identity.id, signature);
      const isOurs = (answer: Bytes) => parseProbeResponse(answer, nonce) !== undefined;
      const answer = await ports.datagrams.ask({ ip, port: reflector.port }, question, isOurs, TIMEOUT);
      seen.set(ip, answer === undefined ? undefined : parseProbeResponse(answer, nonce));
    }),
  );
  return seen;
}
