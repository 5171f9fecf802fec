import t from 'tap';
import { createLab } from '../../chaos/lab/index.js';
import { LAB_UID, labUser, OverlayNode } from '../../chaos/overlay/index.js';
import { eventually } from '../support/overlay-checks.js';
import { confined, factsOf, NOTHING } from '../support/process-facts.js';

/** The smallest daemon there is, as root starts it: quick enough to be run for a mistake made on purpose. */
t.equal(labUser(), String(LAB_UID), 'this checkout is for everybody to read; this test needs that');

const ROOT = '0 0 0 0';

t.test('what root started is root no more once the daemon runs', async (t) => {
  const lab = await createLab({ name: 'in-front' });
  t.teardown(() => lab.close());
  const host = await lab.publicHost('base', { ipv4: '198.51.100.10' });
  const base = new OverlayNode('base', host, 'base', ['--advertise', '198.51.100.10:7400']);
  await base.start();
  t.teardown(() => base.stop());
  const { env: _, cwd: __, ...daemon } = factsOf(base.pid);
  t.same(daemon, confined(LAB_UID, NOTHING));
  // It hears from the daemon that this has begun; whoever waits for the daemon's own word may be quicker.
  const front = await eventually(
    async () => factsOf(base.process.pid),
    ({ uid }) => uid !== ROOT,
    10_000,
  ).catch(() => factsOf(base.process.pid));
  t.equal(front.uid, Array(4).fill(LAB_UID).join(' '));
  t.equal(front.gid, Array(4).fill(LAB_UID).join(' '));
  t.equal(front.groups, '');
  t.equal(front.capabilities[2], NOTHING, 'it can do nothing that root can');
});
