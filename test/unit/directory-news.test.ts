import t from 'tap';
import type { IpAddress, Port } from '../../src/model/address.js';
import { NO_LOAD, type SupernodeInfo } from '../../src/model/directory.js';
import type { PeerId } from '../../src/model/ids.js';
import type { Region } from '../../src/model/role.js';
import { whatPeersGoBy } from '../../src/roles/supernode/directory-news.js';

const supernode = (id: string, more: Partial<SupernodeInfo> = {}): SupernodeInfo => ({
  id: id as PeerId,
  region: 'eu' as Region,
  addresses: [{ host: `${id}.example`, port: 443 as Port }],
  relayIps: ['192.0.2.1' as IpAddress],
  probePort: 3478 as Port,
  draining: false,
  load: NO_LOAD,
  ...more,
});

t.test('loads, and the order that follows from them, are no news for peers', async (t) => {
  const before = whatPeersGoBy([supernode('a'), supernode('b')]);
  t.equal(whatPeersGoBy([supernode('b'), supernode('a', { load: { ...NO_LOAD, sessions: 7 } })]), before);
});

t.test('who comes, goes, moves or drains is', async (t) => {
  const before = whatPeersGoBy([supernode('a'), supernode('b')]);
  const lists: readonly (readonly SupernodeInfo[])[] = [
    [supernode('a')],
    [supernode('a'), supernode('b'), supernode('c')],
    [supernode('a'), supernode('b', { draining: true })],
    [supernode('a'), supernode('b', { addresses: [{ host: 'elsewhere.example', port: 443 as Port }] })],
    [supernode('a'), supernode('b', { relayIps: [] })],
    [supernode('a'), supernode('b', { probePort: undefined })],
    [supernode('a'), supernode('b', { region: 'us' as Region })],
  ];
  for (const list of lists) t.not(whatPeersGoBy(list), before);
});
