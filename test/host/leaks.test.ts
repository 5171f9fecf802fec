import t from 'tap';
import { LeakBed } from '../../chaos/leaks/bed.js';
import { TRANSITIONS } from '../../chaos/leaks/transitions.js';

t.setTimeout(280_000);

/** Those that need no second exit's death to be waited for; `make leaks` runs all of them, as often as wanted. */
const HERE = ['connect', 'address-change', 'kill', 'reboot'];

const bed = await LeakBed.make();
t.teardown(() => bed.close());

for (const { name, title, once } of TRANSITIONS) {
  if (!HERE.includes(name)) continue;
  t.test(`nothing but tunnels leaves a client: ${title}`, async (t) => {
    const { frames, sent, leaks } = await once(bed);
    t.same(leaks, []);
    t.ok(frames > 0 && sent > 0, `${frames} frames looked at, ${sent} datagrams sent`);
  });
}
