import t from 'tap';
import { ADDRESSES, Overlay } from '../../chaos/overlay/index.js';
import { sessionsOf } from '../support/overlay-checks.js';

t.test('where the exit has no IPv6 the client’s is blocked, not leaked', async (t) => {
  const overlay = await Overlay.start({ clientIpv6: true });
  t.teardown(() => overlay.close());
  t.match(await overlay.seenIp(`${overlay.web.url6}/`), /^2001:db8:2:/, 'the client has IPv6 of its own');
  t.equal((await overlay.client.cli('up')).code, 0);
  const six = await overlay.fetch(`${overlay.web.url6}/`, 3);
  t.notOk(six.ok, 'no IPv6 while the tunnel is up');
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'IPv4 goes through the exit');
});

t.test('behind random and carrier-grade NAT the way is the same', async (t) => {
  const overlay = await Overlay.start({ exitNat: 'carrier-grade', clientNat: 'random' });
  t.teardown(() => overlay.close());
  const up = await overlay.client.cli('up', '--privacy', 'private');
  t.equal(up.code, 0, up.stderr);
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
});

t.test('client and exit under one supernode take one relay', async (t) => {
  const overlay = await Overlay.start({ oneSupernode: true });
  t.teardown(() => overlay.close());
  t.equal((await overlay.client.cli('up')).code, 0);
  // It goes direct when it may, which other tests tell.
  t.equal((await overlay.client.cli('path', 'relay')).code, 0);
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
  t.match(await sessionsOf(overlay.client), [{ path: 'PATH_RELAY' }]);
  const refused = await overlay.client.cli('up', '--privacy', 'private');
  t.equal(refused.code, 1);
  t.match(refused.stderr, /^vpnd: .*one supernode would see both ends.*\n$/, 'private needs a second one, and says so');
});
