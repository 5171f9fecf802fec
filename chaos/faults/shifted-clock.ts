/**
 * Loaded into a daemon of the real binary by `node --import`: its clock is off by TEST_CLOCK_SHIFT_MS milliseconds, as
 * Date tells the time. Timers and the monotonic clock go on as they are.
 */
// It stays in the environment: where root starts a daemon, a second process of the same command line is the daemon.
const shift = Number(process.env.TEST_CLOCK_SHIFT_MS ?? '0');

const RealDate = Date;
globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [RealDate.now() + shift] : args, newTarget) as Date,
  get: (target, name, receiver) =>
    name === 'now' ? () => RealDate.now() + shift : (Reflect.get(target, name, receiver) as unknown),
});
