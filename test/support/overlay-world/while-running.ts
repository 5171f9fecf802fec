import type { ControlStream, Network, UnaryContext, UnaryHandlers } from '../../../src/core/ports/network.js';
import type { UnaryCalls, UnaryName } from '../../../src/model/messages.js';
import type { ProcessClock } from './process-clock.js';

/** The network as a process has it that may be stopped, or asleep with its machine: what comes then waits until it runs. */
export function whileRunning(network: Network, clock: ProcessClock): Network {
  const running = () => new Promise<void>((resolve) => clock.whenRunning(resolve));
  const patient = async <T>(work: Promise<T>): Promise<T> => {
    await work.catch(() => {});
    await running();
    return work;
  };
  const stream = (real: ControlStream): ControlStream => ({
    remote: real.remote,
    send: (message) => real.send(message),
    offer: (message) => real.offer(message),
    listen: (listener) =>
      real.listen({
        message: (message, bytes) => clock.whenRunning(() => listener.message(message, bytes)),
        ended: (end) => clock.whenRunning(() => listener.ended(end)),
      }),
    end: (error) => real.end(error),
  });
  const handlers = (unary: UnaryHandlers): UnaryHandlers =>
    Object.fromEntries(
      Object.entries(unary).map(([name, handler]) => [
        name,
        async (request: UnaryCalls[UnaryName][0], context: UnaryContext) => {
          await running();
          return (handler as (request: unknown, context: UnaryContext) => Promise<unknown>)(request, context);
        },
      ]),
    );
  return {
    ...network,
    dialControl: async (target, options) => {
      const dialed = await patient(network.dialControl(target, options));
      return { ...dialed, stream: stream(dialed.stream) };
    },
    call: (target, method, request, options) => patient(network.call(target, method, request, options)),
    serve: (options) =>
      network.serve({
        ...options,
        control: (accepted) =>
          clock.whenRunning(() => options.control({ ...accepted, stream: stream(accepted.stream) })),
        unary: handlers(options.unary),
      }),
  };
}
