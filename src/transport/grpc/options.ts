import type { ChannelOptions } from '@grpc/grpc-js';
import { type Millis, ms, seconds } from '../../model/time.js';
import { MAX_MESSAGE_BYTES } from '../codec/limits.js';

/** HTTP/2 pings: a peer that vanished without a word is found after at most their sum. */
export interface Keepalive {
  /** Quiet time before a ping. */
  readonly every: Millis;
  /** How long an answer may take. */
  readonly patience: Millis;
}

export const KEEPALIVE: Keepalive = { every: seconds(20), patience: seconds(10) };

/** How long a side that ends a stream waits for the other to agree before it cuts the connection. */
export const ENDING_GRACE: Millis = seconds(2);
/** How long a closing server lets streams and calls finish. */
export const CLOSING_GRACE: Millis = ms(500);
export const HANDSHAKE_TIMEOUT: Millis = seconds(10);
/** A connection with neither stream nor call. */
export const SERVER_IDLE: Millis = seconds(60);
export const CLIENT_IDLE: Millis = seconds(30);
/** Clients use one stream per connection; a few more leave room for tools. */
export const MAX_STREAMS_PER_CONNECTION = 16;
export const MAX_METADATA_BYTES = 8 * 1024;
/** Megabytes that one HTTP/2 session may hold in buffers. */
export const SESSION_MEMORY_MB = 4;

/**
 * Bytes a dialler lets come in before it has read them; 64 KiB unless set. What comes down a stream where no UDP gets
 * through is limited to this much in a round trip: 50 Mbit/s at 40 ms. More would stand in queues on slower ways.
 */
export const CLIENT_WINDOW_BYTES = 512 * 1024;

/** The authority and TLS server name of every call. Who the server is stands in its certificate's URI, not here. */
export const AUTHORITY = 'vpnd';

export const CHALLENGE_KEY = 'vpnd-challenge-bin';
export const ERROR_KEY = 'vpnd-error-bin';

const COMMON: ChannelOptions = {
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  'grpc-node.max_session_memory': SESSION_MEMORY_MB,
  // Its records of every connection cost memory, and nobody reads them.
  'grpc.enable_channelz': 0,
};

/** A server's keepalive is the guard's: two timers for each of thousands of connections are thousands too many. */
export const SERVER_OPTIONS: ChannelOptions = {
  ...COMMON,
  'grpc.max_concurrent_streams': MAX_STREAMS_PER_CONNECTION,
  'grpc.max_connection_idle_ms': SERVER_IDLE,
};

export const channelOptions = (keepalive: Keepalive): ChannelOptions => ({
  ...COMMON,
  'grpc.keepalive_time_ms': keepalive.every,
  'grpc.keepalive_timeout_ms': keepalive.patience,
  'grpc.keepalive_permit_without_calls': 0,
  'grpc.default_authority': AUTHORITY,
  'grpc.ssl_target_name_override': AUTHORITY,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
  // Retrying is decided by whoever calls, who knows other supernodes to try.
  'grpc.enable_retries': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.client_idle_timeout_ms': CLIENT_IDLE,
  'grpc-node.flow_control_window': CLIENT_WINDOW_BYTES,
});
