import { Client, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { AbortSignalLike } from '../../core/ports/clock.js';
import type { DialTarget } from '../../core/ports/network.js';
import { formatHostPort } from '../../model/address.js';
import type { VpndError } from '../../model/errors.js';
import type { UnaryCalls, UnaryName } from '../../model/messages.js';
import { type Millis, ms } from '../../model/time.js';
import { UNARY } from '../codec/unary.js';
import { describe, uriOf } from './certificates.js';
import { abandoned, grpcTarget, pass } from './client.js';
import { CheckingCredentials } from './client-credentials.js';
import { errorInTrailer, errorOfStatus, timedOut } from './errors.js';
import { CLIENT_IDLE, channelOptions, type Keepalive } from './options.js';

interface Channel {
  readonly client: Client;
  readonly credentials: CheckingCredentials;
  active: number;
  /** Something was answered over it: it was a connection that worked. */
  answered: boolean;
  idle: NodeJS.Timeout | undefined;
}

interface CallOptions {
  readonly timeout: Millis;
  readonly signal?: AbortSignalLike;
}

/** What became of a connection that had answered before: its other end, or the network between, may have been away. */
class ConnectionLost {
  constructor(readonly error: VpndError) {}
}

/** Unary calls, over one connection per target while there are any. All of them may be made twice. */
export class Calls {
  readonly #channels = new Map<string, Channel>();
  readonly #cancels = new Set<() => void>();
  readonly #keepalive: Keepalive;

  constructor(keepalive: Keepalive) {
    this.#keepalive = keepalive;
  }

  async call<M extends UnaryName>(
    target: DialTarget,
    name: M,
    request: UnaryCalls[M][0],
    options: CallOptions,
  ): Promise<UnaryCalls[M][1]> {
    const until = Date.now() + options.timeout;
    try {
      return await this.#once(target, name, request, options);
    } catch (thrown) {
      if (!(thrown instanceof ConnectionLost)) throw thrown;
      // It says nothing about now: a new connection does.
      const left = ms(until - Date.now());
      if (left <= 0) throw thrown.error;
      return this.#once(target, name, request, { ...options, timeout: left }).catch((again: unknown) => {
        throw again instanceof ConnectionLost ? again.error : again;
      });
    }
  }

  #once<M extends UnaryName>(
    target: DialTarget,
    name: M,
    request: UnaryCalls[M][0],
    options: CallOptions,
  ): Promise<UnaryCalls[M][1]> {
    return new Promise((resolve, reject) => {
      const { signal } = options;
      if (signal?.aborted) return reject(abandoned(signal));
      const codec = UNARY[name];
      const bytes = Buffer.from(codec.request.encode(request));
      const [key, channel] = this.#channel(target);
      channel.active += 1;
      const onAbort = () => call.cancel();
      this.#cancels.add(onAbort);
      const answered = (error: ServiceError | null, response: Buffer | undefined) => {
        signal?.removeEventListener('abort', onAbort);
        this.#cancels.delete(onAbort);
        const unsaid = error !== null && errorInTrailer(error.metadata) === undefined;
        const cut = unsaid && error.code === status.UNAVAILABLE;
        const late = unsaid && error.code === status.DEADLINE_EXCEEDED;
        // A channel that could not connect waits before it tries again, and one whose packets get lost waits ever longer:
        // the next call should not wait with it.
        if (cut || late) this.#drop(key, channel);
        this.#release(key, channel);
        if (signal?.aborted) return reject(abandoned(signal));
        if (error !== null) {
          const where = `${describe(target.expect)} at ${formatHostPort(target.address)}`;
          const why = late
            ? (channel.credentials.failure ?? timedOut(where, options.timeout))
            : errorOfStatus(error, target, channel.credentials.failure);
          return reject(cut && channel.answered ? new ConnectionLost(why) : why);
        }
        channel.answered = true;
        const parsed = codec.response.decode(response ?? new Uint8Array());
        return parsed.ok ? resolve(parsed.value) : reject(parsed.error);
      };
      const call = channel.client.makeUnaryRequest(
        codec.path,
        pass,
        pass,
        bytes,
        new Metadata(),
        { deadline: Date.now() + options.timeout },
        answered,
      );
      signal?.addEventListener('abort', onAbort);
    });
  }

  /** Calls that are under way are given up. */
  close(): void {
    for (const cancel of [...this.#cancels]) cancel();
    for (const [key, channel] of this.#channels) this.#drop(key, channel);
  }

  #channel(target: DialTarget): [string, Channel] {
    const identity = target.identity?.();
    // With a renewed certificate a new channel; the old one ends with its calls.
    const key = JSON.stringify([target.address, uriOf(target.expect), target.ca, identity?.certificate]);
    let channel = this.#channels.get(key);
    if (channel === undefined) {
      const credentials = new CheckingCredentials(target, identity);
      const client = new Client(grpcTarget(target.address), credentials, channelOptions(this.#keepalive));
      channel = { client, credentials, active: 0, answered: false, idle: undefined };
      this.#channels.set(key, channel);
    }
    clearTimeout(channel.idle);
    return [key, channel];
  }

  #release(key: string, channel: Channel): void {
    channel.active -= 1;
    if (channel.active > 0) return;
    if (this.#channels.get(key) === channel) {
      channel.idle = setTimeout(() => this.#drop(key, channel), CLIENT_IDLE);
      channel.idle.unref();
    } else {
      channel.client.close();
    }
  }

  #drop(key: string, channel: Channel): void {
    if (this.#channels.get(key) === channel) this.#channels.delete(key);
    clearTimeout(channel.idle);
    if (channel.active === 0) channel.client.close();
  }
}
