/**
 * Loaded into a daemon of the real binary by `node --import`: its clock is off by TEST_CLOCK_SHIFT_MS milliseconds, as
 * Date tells the time. Timers and the monotonic clock go on as they are.
 */
const shift = Number(process.env.TEST_CLOCK_SHIFT_MS ?? '0');
delete process.env.TEST_CLOCK_SHIFT_MS;
delete process.env.NODE_OPTIONS;

const RealDate = Date;
globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [RealDate.now() + shift] : args, newTarget) as Date,
  get: (target, name, receiver) =>
    name === 'now' ? () => RealDate.now() + shift : (Reflect.get(target, name, receiver) as unknown),
});
