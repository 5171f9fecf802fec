import type { AcceptedStream, ControlStream, Network, UnaryHandlers } from '../../../src/core/ports/network.js';
import type { IpAddress } from '../../../src/model/address.js';
import type {
  ControlMessage,
  OpenSessionRequest,
  OpenSessionResponse,
  UnaryCalls,
  UnaryName,
} from '../../../src/model/messages.js';

/** What a node does to messages, being malicious or unlucky. Undefined fields leave things as they are. */
export interface Tampering {
  /** Every message this node sends on a control stream, and to whom; undefined swallows it. */
  sends?: (message: ControlMessage, to: IpAddress) => ControlMessage | undefined;
  /** What it asks another supernode when it opens a session. */
  asks?: (request: OpenSessionRequest) => OpenSessionRequest;
  /** What it makes of another supernode's request before it serves it. */
  understands?: (request: OpenSessionRequest) => OpenSessionRequest;
  /** What it answers to another supernode. */
  answers?: (response: OpenSessionResponse) => OpenSessionResponse;
}

/**
 * The network as a node has it, with everything it sends going through `how()`. `under` may change: a machine moves.
 * `deed` is told of every message on a stream and of every answer to a call, before and after it is on its way.
 */
export function tampered(
  under: () => Network,
  how: () => Tampering,
  deed: (when: 'before' | 'after') => void = () => {},
): Network {
  const stream = (real: ControlStream): ControlStream => ({
    remote: real.remote,
    send: (message) => {
      const { sends } = how();
      const told = sends === undefined ? message : sends(message, real.remote.ip);
      if (told === undefined) return 'sent';
      deed('before');
      const sent = real.send(told);
      deed('after');
      return sent;
    },
    offer: (message) => {
      const { sends } = how();
      const told = sends === undefined ? message : sends(message, real.remote.ip);
      return told !== undefined && real.offer(told);
    },
    listen: (listener) => real.listen(listener),
    end: (error) => real.end(error),
  });
  return {
    dialControl: async (target, options) => {
      const dialed = await under().dialControl(target, options);
      return { ...dialed, stream: stream(dialed.stream) };
    },
    call: <M extends UnaryName>(
      target: Parameters<Network['call']>[0],
      method: M,
      request: UnaryCalls[M][0],
      options: Parameters<Network['call']>[3],
    ) => {
      const { asks } = how();
      const asked =
        method === 'openSession' && asks !== undefined
          ? (asks(request as OpenSessionRequest) as UnaryCalls[M][0])
          : request;
      return under().call(target, method, asked, options);
    },
    fetchCa: (address, hash, options) => under().fetchCa(address, hash, options),
    serve: (options) =>
      under().serve({
        ...options,
        control: (accepted: AcceptedStream) => options.control({ ...accepted, stream: stream(accepted.stream) }),
        unary: handlers(options.unary, how, deed),
      }),
    close: () => under().close(),
  };
}

function handlers(unary: UnaryHandlers, how: () => Tampering, deed: (when: 'before' | 'after') => void): UnaryHandlers {
  const { openSession } = unary;
  if (openSession === undefined) return unary;
  return {
    ...unary,
    openSession: async (request, context) => {
      const { understands, answers } = how();
      const response = await openSession(understands?.(request) ?? request, context);
      deed('before');
      return answers?.(response) ?? response;
    },
  };
}
