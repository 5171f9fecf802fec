import { performance } from 'node:perf_hooks';
import type { Clock } from '../core/ports/clock.js';
import type { Log } from '../core/ports/log.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { Network } from '../core/ports/network.js';
import type { Random } from '../core/ports/random.js';
import { VpndError } from '../model/errors.js';
import { ms } from '../model/time.js';
import { Calls } from './grpc/calls.js';
import { dialStream } from './grpc/client.js';
import { fetchCaFrom } from './grpc/fetch-ca.js';
import { GUARD_LIMITS, type GuardLimits } from './grpc/guard.js';
import { KEEPALIVE, type Keepalive } from './grpc/options.js';
import { startServer } from './grpc/server.js';

export interface GrpcNetworkOptions {
  readonly log: Log;
  /** Makes the challenges. */
  readonly random: Random;
  /** Of each server; more are refused at once. */
  readonly maxConnections?: number;
  readonly keepalive?: Keepalive;
  /** What one connection, and one address, may cost its servers. */
  readonly guard?: GuardLimits;
  /** Counts what they refuse. */
  readonly metrics?: Pick<Metrics, 'connectionsRefused'>;
  readonly clock?: Pick<Clock, 'monotonic'>;
}

/** Below the usual limit of open files (20,000), so that refusing is ours and not a failing accept. */
const MAX_CONNECTIONS = 16_000;

/** Control-plane networking by gRPC over TLS 1.3 (@grpc/grpc-js). */
export function grpcNetwork(options: GrpcNetworkOptions): Network {
  const { log, random, maxConnections = MAX_CONNECTIONS, keepalive = KEEPALIVE } = options;
  const { guard = GUARD_LIMITS, clock = { monotonic: () => ms(performance.now()) } } = options;
  const refused = options.metrics?.connectionsRefused ?? { inc: () => {} };
  const calls = new Calls(keepalive);
  const closing = new AbortController();
  return {
    dialControl: (target, dialing) => dialStream(target, dialing, { log, keepalive }),
    call: (target, name, request, calling) => calls.call(target, name, request, calling),
    fetchCa: (address, caKeyHash, { timeout }) => fetchCaFrom(address, caKeyHash, timeout, closing.signal),
    serve: (serving) => startServer(serving, { log, random, maxConnections, keepalive, guard, clock, refused }),
    async close() {
      closing.abort(new VpndError('closed', 'this node is stopping'));
      calls.close();
    },
  };
}
