import t from 'tap';
import { unitIdOf } from '../../src/model/dataplane.js';
import { seconds } from '../../src/model/time.js';
import { overlayWorld } from '../support/overlay-world.js';

t.test('a session has its own two addresses at its exit, and no network', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us' }, { region: 'us' }] });
  for (const client of ['c0', 'c1']) {
    await world.up(client);
    await world.advance(seconds(45));
  }
  const units = world.node('x0').kernel.units();
  const peers = units.filter((unit) => unit.kind === 'peer');
  t.equal(peers.length, 2);
  for (const peer of peers)
    t.match(peer.allowedIps, [/^10\.\d+\.\d+\.\d+\/32$/, /^fd[0-9a-f:]+\/128$/], unitIdOf(peer));
  const all = peers.flatMap(({ allowedIps }) => allowedIps);
  t.equal(new Set(all).size, 4, 'and nobody has another one’s');
});
