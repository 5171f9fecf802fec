import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { excludedGroup } from '../../dataplane/excluded-programs.js';
import { withoutOverlap } from '../../dataplane/kill-switch-text.js';
import { LockdownFile } from '../../dataplane/lockdown-file.js';
import { checkUnit } from '../../dataplane/validate.js';
import { anyNetwork } from '../../src/config/values.js';
import { KILL_SWITCH, type KillSwitchUnit, unitIdOf } from '../../src/model/dataplane.js';
import { VpndError } from '../../src/model/errors.js';
import { ms, seconds } from '../../src/model/time.js';
import { at, cidrs, killSwitch } from '../support/namespace-units.js';
import { type Machine, type OverlayWorld, overlayWorld } from '../support/overlay-world.js';
import { testLog } from '../support/test-log.js';

const killSwitchOf = (machine: Machine): KillSwitchUnit | undefined => {
  const unit = machine.kernel.unit(KILL_SWITCH);
  return unit?.kind === 'kill-switch' ? unit : undefined;
};
/** What becomes of a packet to the internet. */
const sends = (world: OverlayWorld): string => {
  const { host, ip } = world.node('c0');
  return host.send({ kind: 'ping', id: 0, source: host.source() ?? ip, destination: '9.9.9.9' as never }).by;
};
const lockdown = (world: OverlayWorld, on: boolean) => {
  const { setLockdown } = world.node('c0').running.local;
  if (setLockdown === undefined) throw new Error('c0 is no client');
  return world.clock.run(setLockdown(on));
};

t.test('traffic is held from the moment an exit is asked for, and let out when there is none', async (t) => {
  const world = await overlayWorld();
  const c0 = world.node('c0');
  t.equal(sends(world), 'uplink');
  world.node('x0').kernelTakes = ms(300);
  const asked = world.upSoon('c0');
  await world.advance(50);
  t.equal(sends(world), 'nobody', 'while the exit is being asked for');
  await world.clock.run(asked);
  t.equal(sends(world), 'tunnel');
  await world.down('c0');
  t.equal(sends(world), 'uplink');

  t.match(await world.refusal('c0', { region: 'moon' }), { code: 'no-exit' });
  t.equal(killSwitchOf(c0), undefined, 'a wish that came to nothing holds nothing');
});

t.test('where the kernel refuses the kill switch there is no tunnel, and nothing is left', async (t) => {
  const world = await overlayWorld();
  const c0 = world.node('c0');
  let refused = 0;
  c0.kernelFault = (change) => {
    const isIt = change !== 'reconcile' && change.put?.some((unit) => unit.kind === 'kill-switch');
    return isIt && ++refused === 1 ? new VpndError('dataplane', 'nft says no') : undefined;
  };
  t.match(await world.refusal('c0'), { code: 'dataplane' });
  t.ok(refused > 0);
  await world.advance(seconds(15));
  t.equal(c0.print(), '');
  t.same(world.residue(), []);
});

t.test('rules, routes, devices: whatever somebody removes, the kill switch holds', async (t) => {
  const world = await overlayWorld();
  await world.up('c0');
  const c0 = world.node('c0');
  const traffic = world.traffic('c0');
  for (const unit of c0.kernel.units()) {
    if (unit.kind === 'kill-switch') continue;
    c0.kernel.vandalise(unitIdOf(unit));
    t.not(sends(world), 'uplink', unitIdOf(unit));
    await world.advance(seconds(12));
  }
  traffic.stop();
  t.same(world.leaks, []);
  t.equal(sends(world), 'tunnel', 'it was put right each time');
});

t.test('past it go the endpoints of the tunnels there are, and the daemon’s own', async (t) => {
  const world = await overlayWorld();
  await world.up('c0');
  await world.advance(seconds(10));
  const c0 = world.node('c0');
  const peers = c0.kernel.units().flatMap((unit) => (unit.kind === 'peer' ? [unit.endpoint] : []));
  t.hasStrict(killSwitchOf(c0)?.endpoints, peers);
  t.ok(c0.host.leavesBeside('tcp', at(world.node('a').ip, 443)), 'a supernode');
  t.notOk(c0.host.leavesBeside('tcp', at(world.node('a').ip, 80)), 'at no other port');
  t.notOk(c0.host.leavesBeside('tcp', at('198.51.100.99', 443)), 'nor anybody else');
  for (const unit of c0.kernel.units()) if (unit.kind === 'device') t.type(unit.mark, 'number', 'WireGuard is marked');
});

t.test('lockdown outlives the tunnel, the daemon and the machine’s run', async (t) => {
  const world = await overlayWorld();
  await lockdown(world, true);
  t.equal(sends(world), 'nobody', 'before vpnd up');
  await world.up('c0');
  t.equal(sends(world), 'tunnel');
  t.match(await world.down('c0'), { lockedDown: true });
  t.equal(sends(world), 'nobody', 'after vpnd down');
  world.crash('c0', 'power-off');
  t.equal(sends(world), 'nobody', 'before a daemon runs');
  await world.restart('c0');
  await world.untilConnected(['c0']);
  t.equal(sends(world), 'nobody');
  t.match((await world.status('c0')).facts, { lockdown: /^on/, kill_switch: /^on/ });
  await world.up('c0');
  t.match(world.way('c0'), { ok: true });
  await world.down('c0');
  await lockdown(world, false);
  t.equal(sends(world), 'uplink');
  await world.restart('c0');
  t.equal(sends(world), 'uplink', 'and it stays off');
});

t.test('lockdown that somebody removes is put back, with no tunnel to look after', async (t) => {
  const world = await overlayWorld();
  await lockdown(world, true);
  world.node('c0').kernel.vandalise(KILL_SWITCH);
  await world.advance(seconds(12));
  t.equal(sends(world), 'nobody');
  t.ok(world.events('c0').includes('repaired'));
});

t.test('a start says so, or leaves it as it is', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us', lockdown: true }] });
  t.equal(sends(world), 'nobody');
  const off = await overlayWorld({ clients: [{ region: 'us', lockdown: false }] });
  t.equal(sends(off), 'uplink');
});

t.test('status says what leaves outside', async (t) => {
  const world = await overlayWorld({
    clients: [{ region: 'us', allowLan: true, exclude: cidrs('203.0.113.0/24') }],
  });
  t.match((await world.status('c0')).facts, {
    kill_switch: /^off/,
    local_network: 'open (--allow-lan)',
    outside: '203.0.113.0/24',
  });
  await world.up('c0');
  t.match(killSwitchOf(world.node('c0')), { lan: true, exclude: ['203.0.113.0/24'], persist: false });
});

t.test('networks to exclude', async (t) => {
  t.same(anyNetwork('203.0.113.0/24'), { ok: true, value: '203.0.113.0/24' });
  t.same(anyNetwork('203.0.113.7'), { ok: true, value: '203.0.113.7/32' });
  t.same(anyNetwork('2001:db8:5::/48'), { ok: true, value: '2001:db8:5::/48' });
  for (const bad of ['0.0.0.0/0', '::/0', '203.0.113.7/24', 'example.org', '']) t.notOk(anyNetwork(bad).ok, bad);
  t.throws(() => checkUnit(killSwitch({ exclude: cidrs('0.0.0.0/0') })), { code: 'bad-config' });
  t.throws(() => checkUnit(killSwitch({ devices: ['wg"; drop; "' as never] })), { code: 'bad-config' });
  t.same(withoutOverlap(cidrs('10.0.0.0/8', '10.1.0.0/16', '10.0.0.0/8', '192.168.0.0/16', 'fc00::/7')), [
    '10.0.0.0/8',
    '192.168.0.0/16',
    'fc00::/7',
  ]);
});

t.test('the file that the next boot loads', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-lockdown-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'lockdown.nft');
  const file = new LockdownFile(path, testLog());
  t.notOk(file.exists());
  file.remove();
  file.write('one\n');
  file.write('two\n');
  t.equal(readFileSync(path, 'utf8'), 'two\n');
  t.equal(statSync(path).mode & 0o777, 0o600);
  file.remove();
  t.notOk(file.exists());
  writeFileSync(join(dir, 'no-directory'), '');
  const nowhere = new LockdownFile(join(dir, 'no-directory', 'lockdown.nft'), testLog());
  t.throws(() => nowhere.write('text'), { code: 'state-unreadable' }, 'lockdown is not said to be on');
});

t.test('control groups are where nft looks for them, or nowhere', async (t) => {
  const line = (at: string) => `cgroup2 ${at} cgroup2 rw 0 0\n`;
  t.match(excludedGroup(line('/sys/fs/cgroup')), { directory: '/sys/fs/cgroup/vpnd-exclude', path: 'vpnd-exclude' });
  t.match(excludedGroup(`cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n${line('/sys/fs/cgroup/unified')}`), {
    directory: '/sys/fs/cgroup/unified/vpnd-exclude',
    path: 'unified/vpnd-exclude',
  });
  t.equal(excludedGroup(line('/mnt/elsewhere')), undefined);
  t.equal(excludedGroup('cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n'), undefined);
});
