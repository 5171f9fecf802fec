import type { Identity } from '../../core/ports/crypto.js';
import type { Datagrams } from '../../core/ports/datagrams.js';
import type { Random } from '../../core/ports/random.js';
import { parseProbeResponse, vouchInput, vouchRequest } from '../../core/probe.js';
import type { IpAddress, Port } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import { type Millis, seconds } from '../../model/time.js';

/** Long enough for a slow line, and over before anybody asks for an exit. */
const TIMEOUT: Millis = seconds(2);

/**
 * Show the supernode, by a signed datagram to each relay address, which address this node's UDP comes from: some NATs
 * send it from another one than TCP. True as soon as one of them answers, false when none did in time.
 * @param counter gives a number that this stream has not used yet
 */
export function vouchForUdp(
  ports: { readonly datagrams: Datagrams; readonly random: Random },
  identity: Identity,
  probeToken: Bytes,
  counter: () => number,
  reflector: { readonly ips: readonly IpAddress[]; readonly port: Port },
): Promise<boolean> {
  const asked = reflector.ips.map(async (ip) => {
    const nonce = ports.random.bytes(16);
    const count = counter();
    const signature = identity.sign(vouchInput(probeToken, nonce, count));
    const question = vouchRequest(nonce, count, identity.id, signature);
    const isOurs = (answer: Bytes) => parseProbeResponse(answer, nonce) !== undefined;
    const answer = await ports.datagrams.ask({ ip, port: reflector.port }, question, isOurs, TIMEOUT);
    if (answer === undefined) throw new Error(`no answer from ${ip}`);
  });
  return Promise.any(asked).then(
    () => true,
    () => false,
  );
}
