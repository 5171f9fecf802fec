import t from 'tap';
import { createLab } from '../../chaos/lab/index.js';
import { openOnHost } from '../support/namespace-dataplane.js';
import { dataPlaneContract } from './dataplane.suite.js';

// An emulated machine takes its time.
t.setTimeout(600_000);

t.test('Linux, in a namespace of its own', async (t) => {
  t.setTimeout(600_000);
  const lab = await createLab();
  t.teardown(() => lab.close());
  const host = await lab.publicHost('host', { ipv4: '198.51.100.1', ipv6: '2001:db8::1' });
  dataPlaneContract(t, {
    open: () => openOnHost(host, { owner: 'supernode', engine: 'auto' }),
    trafficOf: (plane, device) => plane.trafficOf(device),
    randomSteps: 40,
  });
});
