/**
 * A network watch in a process of its own: `namespace-watch.js`. Prints its state as JSON, one line at the start and
 * one for each change. At SIGTERM it closes the watch, prints "closed", and does not end itself: whatever still runs then
 * would keep it.
 */
import { openNetworkWatch } from '../../dataplane/network-watch.js';
import { systemClock } from '../../src/roles/common/system-clock.js';
import { testLog } from './test-log.js';

const watch = await openNetworkWatch({
  clock: systemClock(),
  log: testLog(),
  ownDevices: (name) => name.startsWith('wg-'),
});
console.log(JSON.stringify(watch.current()));
watch.listen((state) => console.log(JSON.stringify(state)));
const stay = setInterval(() => {}, 60_000);
process.once('SIGTERM', async () => {
  await watch.close();
  clearInterval(stay);
  console.log('closed');
});
