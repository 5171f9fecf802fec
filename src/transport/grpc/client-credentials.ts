import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { CallCredentials, ChannelCredentials } from '@grpc/grpc-js';
import type { DialTarget, TlsIdentity } from '../../core/ports/network.js';
import { type Endpoint, formatHostPort, parseIp, parsePort } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import { describe, keyHash, uriNames, uriOf } from './certificates.js';
import { unreachable } from './errors.js';
import { AUTHORITY } from './options.js';

/** The far end of a checked TLS connection. */
export interface CheckedServer {
  readonly keyHash: Bytes;
  readonly remote: Endpoint;
}

type SecureConnector = ReturnType<ChannelCredentials['_createSecureConnector']>;

/**
 * TLS for one target that takes a certificate only when it chains to the overlay's CA and names the expected node. It
 * makes the TLS connection itself, since grpc-js would hide why one failed in the text of an UNAVAILABLE.
 */
export class CheckingCredentials extends ChannelCredentials {
  /** What the newest attempt to connect came upon, when it got as far as TLS. */
  failure: VpndError | undefined;
  /** The newest connection. */
  server: CheckedServer | undefined;
  readonly #target: DialTarget;
  readonly #context: SecureContext;
  #socket: Socket | undefined;

  constructor(target: DialTarget, identity: TlsIdentity | undefined) {
    super();
    this.#target = target;
    try {
      this.#context = createSecureContext({
        ca: target.ca,
        minVersion: 'TLSv1.3',
        ...(identity && { cert: identity.certificate, key: identity.privateKey }),
      });
    } catch (cause) {
      throw new VpndError('state-unreadable', 'the certificates of this node cannot be used', { cause });
    }
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(): SecureConnector {
    return {
      connect: async (socket) => ({ socket: await this.#secure(socket), secure: true }),
      waitForReady: async () => {},
      getCallCredentials: () => CallCredentials.createEmpty(),
      destroy: () => {},
    };
  }

  /** Ends the newest connection without waiting for the other side, which may be frozen. */
  cut(): void {
    this.#socket?.destroy();
  }

  async #secure(socket: Socket): Promise<TLSSocket> {
    this.failure = undefined;
    this.#socket = socket;
    try {
      const secured = await handshake(socket, this.#context);
      this.server = checkServer(secured, this.#target);
      return secured;
    } catch (thrown) {
      socket.destroy();
      this.failure = thrown instanceof VpndError ? thrown : this.#brokenHandshake(thrown);
      throw this.failure;
    }
  }

  #brokenHandshake(thrown: unknown): VpndError {
    const where = `${describe(this.#target.expect)} at ${formatHostPort(this.#target.address)}`;
    const text = thrown instanceof Error ? thrown.message : String(thrown);
    return /wrong version number|packet length too long|http request/i.test(text)
      ? unreachable(where, 'what listens there does not speak TLS', thrown)
      : unreachable(where, `the TLS handshake failed (${text})`, thrown);
  }
}

function handshake(socket: Socket, secureContext: SecureContext): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const secured = connect({
      socket,
      secureContext,
      ALPNProtocols: ['h2'],
      servername: AUTHORITY,
      // checkServer is stricter than the default checks and needs the certificate to say what is wrong with it; nothing
      // is sent before it has agreed.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    });
    secured.once('secureConnect', () => resolve(secured));
    secured.once('error', reject);
    secured.once('close', () => reject(new Error('the connection was closed')));
  });
}

function checkServer(socket: TLSSocket, target: DialTarget): CheckedServer {
  const certificate = socket.getPeerX509Certificate();
  const where = `${describe(target.expect)} at ${formatHostPort(target.address)}`;
  if (certificate === undefined) throw new VpndError('wrong-ca', `${where} shows no certificate`);
  // Node gives the code as text where its types say Error.
  if (!socket.authorized) throw untrusted(where, String(socket.authorizationError), certificate);
  const expected = uriOf(target.expect);
  const names = uriNames(certificate);
  if (!names.includes(expected)) {
    const shown = names.length === 0 ? 'names no node' : `is for ${names.join(', ')}`;
    throw new VpndError('wrong-ca', `${where}: expected a certificate for ${expected}, but the one shown ${shown}`);
  }
  const ip = parseIp(socket.remoteAddress ?? '');
  const port = parsePort(socket.remotePort ?? 0);
  if (!ip.ok || !port.ok) throw new Error('the connection was closed');
  return { keyHash: keyHash(certificate.publicKey), remote: { ip: ip.value, port: port.value } };
}

function untrusted(where: string, code: string, certificate: X509Certificate): VpndError {
  const now = new Date().toISOString();
  const span = `valid ${new Date(certificate.validFrom).toISOString()} to ${new Date(certificate.validTo).toISOString()}`;
  const details = { tls: code };
  if (code === 'CERT_NOT_YET_VALID')
    return new VpndError(
      'clock-skew',
      `${where}: its certificate is not valid yet (${span}; this machine says ${now}); check this machine's clock`,
      { details },
    );
  if (code === 'CERT_HAS_EXPIRED')
    return new VpndError(
      'clock-skew',
      `${where}: its certificate has expired (${span}; this machine says ${now}); check this machine's clock, then the server's renewal`,
      { details },
    );
  return new VpndError('wrong-ca', `${where}: its certificate is not of this overlay's CA (${code})`, { details });
}
