import { constants } from 'node:crypto';
import type { SecureServerOptions } from 'node:http2';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { ServerCredentials } from '@grpc/grpc-js';
import type { TlsIdentity } from '../../core/ports/network.js';
import { VpndError } from '../../model/errors.js';
import { HANDSHAKE_TIMEOUT, MAX_METADATA_BYTES, MAX_STREAMS_PER_CONNECTION, SESSION_MEMORY_MB } from './options.js';

const SERVER_OPTIONS: SecureServerOptions = {
  minVersion: 'TLSv1.3',
  // Supernodes show a certificate, peers have none; who showed which is decided call by call.
  requestCert: true,
  rejectUnauthorized: false,
  handshakeTimeout: HANDSHAKE_TIMEOUT,
  maxSessionMemory: SESSION_MEMORY_MB,
  maxHeaderListPairs: 64,
  maxSessionInvalidFrames: 100,
  maxSessionRejectedStreams: 100,
  settings: {
    enablePush: false,
    maxConcurrentStreams: MAX_STREAMS_PER_CONNECTION,
    maxHeaderListSize: MAX_METADATA_BYTES,
  },
};

/** A server's TLS, whose certificate can be exchanged while it serves. */
export class RenewableCredentials extends ServerCredentials {
  /** Throws VpndError `bad-config` when certificate and key cannot be used. */
  constructor(identity: TlsIdentity, ca: string) {
    super(SERVER_OPTIONS, contextOf(identity, ca));
  }

  /** Connections that come from now on see this identity. Throws VpndError `bad-config`, changing nothing. */
  renew(identity: TlsIdentity, ca: string): void {
    this.updateSecureContextOptions(contextOf(identity, ca));
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}

function contextOf(identity: TlsIdentity, ca: string): SecureContextOptions {
  const options: SecureContextOptions = {
    cert: identity.certificate,
    key: identity.privateKey,
    ca,
    minVersion: 'TLSv1.3',
    // A resumed connection shows no certificate, so the key that AuthRequest signs would be one seen earlier.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
  try {
    createSecureContext(options);
  } catch (cause) {
    throw new VpndError('bad-config', 'the TLS certificate and key of this node cannot be used', { cause });
  }
  return options;
}
