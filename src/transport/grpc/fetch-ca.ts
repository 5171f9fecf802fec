import { X509Certificate } from 'node:crypto';
import { connect, type DetailedPeerCertificate } from 'node:tls';
import { formatHostPort, type HostPort } from '../../model/address.js';
import { type Bytes, equalConstantTime } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import type { Millis } from '../../model/time.js';
import { keyHash } from './certificates.js';
import { abandoned } from './client.js';
import { timedOut, unreachable } from './errors.js';
import { AUTHORITY } from './options.js';

/**
 * The certificate in PEM, among those a server shows, whose key has the pinned hash; without one, the CA of the first of
 * them. Rejects with VpndError `wrong-ca`,
 * `unreachable`, `timeout`.
 */
export function fetchCaFrom(
  address: HostPort,
  caKeyHash: Bytes | undefined,
  timeout: Millis,
  signal?: AbortSignal,
): Promise<string> {
  const where = formatHostPort(address);
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: address.host,
      port: address.port,
      servername: AUTHORITY,
      ALPNProtocols: ['h2'],
      minVersion: 'TLSv1.3',
      // Whom to trust is what is being asked here; the pin decides it.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    });
    const timer = setTimeout(() => fail(timedOut(where, timeout)), timeout);
    const onAbort = () => signal && fail(abandoned(signal));
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    const fail = (error: VpndError) => {
      settle();
      socket.destroy();
      reject(error);
    };
    if (signal?.aborted) return fail(abandoned(signal));
    signal?.addEventListener('abort', onAbort);
    socket.once('error', (error: NodeJS.ErrnoException) =>
      fail(unreachable(where, `${error.message} ${error.code}`, error)),
    );
    socket.once('close', () => fail(unreachable(where, 'the connection was closed')));
    socket.once('secureConnect', () => {
      const [leaf, ...rest] = chainOf(socket.getPeerCertificate(true));
      const found =
        caKeyHash === undefined
          ? rest.find((one) => isAuthority(one) && leaf?.checkIssued(one) && leaf.verify(one.publicKey))
          : [leaf, ...rest].find((one) => one !== undefined && isPinned(one, caKeyHash));
      if (found === undefined)
        return fail(
          new VpndError(
            'wrong-ca',
            `${where} is not of the overlay that the token is for: no CA with the token's hash; ask whoever runs that base for a token`,
          ),
        );
      settle();
      socket.destroy();
      resolve(`${found.toString().trim()}\n`);
    });
  });
}

/** A chain is as long as its server likes. */
const MAX_CHAIN = 8;

function chainOf(leaf: DetailedPeerCertificate): X509Certificate[] {
  const chain: X509Certificate[] = [];
  const seen = new Set<string>();
  let next: DetailedPeerCertificate | undefined = leaf;
  while (next?.raw !== undefined && chain.length < MAX_CHAIN && !seen.has(next.fingerprint256)) {
    seen.add(next.fingerprint256);
    chain.push(new X509Certificate(next.raw));
    // A self-signed certificate is its own issuer.
    next = next.issuerCertificate;
  }
  return chain;
}

/** By key and by its own signature: whoever copies the key into another certificate cannot sign that one. */
const isPinned = (certificate: X509Certificate, caKeyHash: Bytes): boolean =>
  equalConstantTime(keyHash(certificate.publicKey), caKeyHash) && isAuthority(certificate);

const isAuthority = (certificate: X509Certificate): boolean =>
  certificate.ca && certificate.verify(certificate.publicKey);
