import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ADDRESSES, LAB_UID, labUser, Overlay, OverlayNode, Pings, vpnd } from '../../chaos/overlay/index.js';
import { handOver, type Owner, removeMade } from '../../src/identity/state-owner.js';
import { BadInputs, withMounts, withoutProgram } from '../support/bad-input.js';
import { eventually } from '../support/overlay-checks.js';
import { commandOf, confined, factsOf, NET_ADMIN, processesOf, setsNames } from '../support/process-facts.js';

/** State directories and users of daemons that root starts: those that were root's before, and those that nobody has made. */
t.equal(labUser(), String(LAB_UID), 'this checkout is for everybody to read; these tests need that');
const USER: Owner = { name: String(LAB_UID), uid: LAB_UID, gid: LAB_UID };
const AS_ROOT = ['--user', 'root'];

t.test('an overlay that ran as root is upgraded: daemons give root up, sessions go on', async (t) => {
  const overlay = await Overlay.build({
    clientArgs: ['--standby', 'off'],
    supernodeArgs: ['--drain-timeout', '0s'],
  });
  t.teardown(() => overlay.close());
  const { base, a, b, exit, client } = overlay;
  await base.start({ more: AS_ROOT });
  for (const [node, role, region] of [
    [a, 'supernode', 'eu'],
    [b, 'supernode', 'us'],
    [exit, 'exit', 'us'],
    [client, 'client', 'eu'],
  ] as const) {
    await node.start({ token: await overlay.token(role, region), more: AS_ROOT });
  }
  t.equal((await client.cli('up')).code, 0);
  t.equal(factsOf(exit.pid).uid, '0 0 0 0', 'before, they are root');
  t.match(exit.process.lines('stderr').join('\n'), /runs as root: whoever breaks into this daemon/, 'which is said');
  t.equal(statSync(join(exit.stateDir, 'identity.key')).uid, 0);

  // What an attacker, or an administrator, may have put there.
  const outside = join(exit.host.directory, 'somebody-elses');
  writeFileSync(outside, 'not vpnd’s\n', { mode: 0o600 });
  symlinkSync(outside, join(exit.stateDir, 'link'));
  linkSync(outside, join(exit.stateDir, 'second-name'));
  mkdirSync(join(exit.stateDir, 'more'), { mode: 0o700 });
  writeFileSync(join(exit.stateDir, 'more', 'file'), '', { mode: 0o600 });

  for (const node of [base, a, b, exit, client]) {
    const replaced = node.host.pids().filter((pid) => commandOf(pid).includes('wireguard-go')).length > 0;
    const pings = await Pings.start(overlay.client.host, overlay.web);
    if (node === exit || node === client) await node.crash();
    else await node.stop();
    await node.start();
    t.same(factsOf(node.pid).uid, confined(LAB_UID, '0').uid, node.name);
    t.match(node.process.lines('stdout').join('\n'), /now belongs to user 64123/, 'and says so');
    await eventually(
      () => overlay.seenIp().catch(String),
      (seen) => seen === ADDRESSES.exitHome,
    );
    const { sent, lost } = await pings.stop();
    // Twenty packets a second: WireGuard in user space was root's too, and is made anew.
    if (replaced) t.ok(lost < 100, `${lost} of ${sent} packets lost while it took root's WireGuard's place`);
    else t.equal(lost, 0, `of ${sent} packets none was lost`);
    for (const { command, facts } of processesOf(node.host).filter((one) => !setsNames(one.command))) {
      t.equal(facts.uid, confined(LAB_UID, '0').uid, command);
    }
  }

  const owners = (dir: string) => new Set(readdirSync(dir).map((name) => `${name} ${lstatSync(join(dir, name)).uid}`));
  for (const node of [base, a, b, client]) {
    t.equal(statSync(node.stateDir).uid, LAB_UID);
    for (const one of owners(node.stateDir)) t.match(one, / 64123$/, node.name);
  }
  t.ok(owners(exit.stateDir).has('more 64123'));
  t.ok(owners(join(exit.stateDir, 'more')).has('file 64123'));
  t.equal(statSync(outside).uid, 0, 'no link out of it was followed');
  t.equal(lstatSync(join(exit.stateDir, 'link')).uid, 0);
  t.match(exit.process.lines('stderr').join('\n'), /not given to user 64123: .*second-name has another name elsewhere/);

  await t.test('and everything is theirs to command', async (t) => {
    const down = await client.cli('down');
    t.equal(down.code, 0, down.stderr);
    t.equal((await client.cli('up')).code, 0);
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
    for (const { facts } of processesOf(client.host).filter(({ command }) => command.includes('wireguard-go')))
      t.match(facts, confined(LAB_UID, NET_ADMIN));
  });

  await t.test('a start that came to nothing leaves no directory behind', async (t) => {
    const newcomer = new OverlayNode('newcomer', client.host, 'exit', ['--metrics', 'off']);
    const ran = await client.host.run(vpnd(...newcomer.commandLine, '--dataplane', 'memory'));
    t.equal(ran.code, 1);
    t.match(ran.stderr, /not enrolled yet/);
    t.notOk(existsSync(newcomer.stateDir));
  });

  await t.test('users', async (t) => {
    const { host } = client;
    const dir = join(host.directory, 'users', 'base');
    const own = ['--advertise', '127.0.0.1', '--listen', '127.0.0.1:7499', '--metrics', 'off'];
    const args = ['base', '--state-dir', dir, ...own];
    const bad = new BadInputs();
    const refused = (input: string, user: string, says: RegExp[], wrap: readonly string[] = [], status: 1 | 2 = 1) =>
      bad.refused(t, {
        input,
        host,
        argv: [...args, '--user', user],
        wrap,
        status,
        says,
        untouched: [join(dir, '..')],
      });
    await refused('a user that is not there', 'mallory', [/no user 'mallory'/, /useradd/], [], 2);
    await refused('no user name at all', 'Robert; DROP', [/is not a user name/], [], 2);
    const noUseradd = withoutProgram(host, '/usr/sbin/useradd');
    await refused('no user, and no useradd', 'vpnd-base', [/no user vpnd-base/, /--user/], noUseradd);
    const readOnly = withMounts('mount --bind /etc /etc; mount -o remount,bind,ro /etc');
    await refused('no user, and a read-only /etc', 'vpnd-base', [/cannot be made \(/, /--user/], readOnly);
    const noSetpriv = withoutProgram(host, '/usr/bin/setpriv');
    await refused('no setpriv', '64123', [/setpriv is not installed/, /apt-get install/], noSetpriv);
    const noSetuid = ['setpriv', '--bounding-set=-setuid', '--'];
    await refused(
      'root that may not become another user',
      '64123',
      [/cannot become user 64123/, /--user root/],
      noSetuid,
    );
    const closed = join(host.directory, 'closed');
    mkdirSync(closed, { mode: 0o700 });
    const inside = { host, argv: ['base', '--state-dir', join(closed, 'base'), ...own], untouched: [closed] };
    const opens = [/user 64123 cannot reach/, /chmod o\+x/];
    await bad.refused(t, { ...inside, input: 'a state directory behind a closed one', status: 1, says: opens });
    const home = join(host.directory, 'home');
    mkdirSync(home);
    chownSync(home, 65_534, 65_534);
    await bad.refused(t, {
      input: "a state directory in another user's",
      host,
      argv: ['base', '--state-dir', join(home, 'base'), ...own],
      status: 1,
      says: [/others than root may change/, /install -d/],
      untouched: [home],
    });
    bad.compareWithDocument(t, 'Becoming a user');

    // /etc and what useradd keeps elsewhere, for this process alone.
    const copy = join(host.directory, 'etc');
    mkdirSync(copy);
    const [program = '', binary = ''] = vpnd('status');
    const private_ = withMounts('cp -a /etc/. "$1"; mount --bind "$1" /etc; mount -t tmpfs none /var/log', copy);
    const daemon = host.spawn([...private_, program, binary, ...args]);
    await daemon.waitForLine(/ ready: /);
    const made = statSync(dir).uid;
    t.ok(made !== 0 && made < 1000, 'a system user was made');
    t.match(
      await host.exec(['grep', '^vpnd-base:', join(copy, 'passwd')]),
      new RegExp(`^vpnd-base:x:${made}:.*nologin`),
    );
    const processes = processesOf(host).filter(({ command }) => command.includes(dir));
    t.equal(processes.length, 2);
    for (const { facts } of processes) t.equal(facts.uid, confined(made, '0').uid);
    await daemon.stop();
  });
});

t.test('what root gives away', async (t) => {
  // Root's alone, all the way up: what lies in a home directory is not.
  const overlay = await Overlay.build({ oneSupernode: true });
  t.teardown(() => overlay.close());
  const top = join(overlay.base.host.directory, 'places');
  const place = (name: string, ...files: readonly string[]): string => {
    const dir = join(top, name);
    mkdirSync(dir, { recursive: true, mode: 0o755 });
    for (const file of files) writeFileSync(join(dir, file), '', { mode: 0o600 });
    return dir;
  };
  const owner = (path: string) => lstatSync(path).uid;

  t.match(handOver(place('empty'), USER), { made: [], changed: 1, left: [] });
  t.equal(owner(place('empty')), LAB_UID);

  const made = handOver(join(top, 'new', 'deep', 'exit'), USER).made;
  t.same(made, [join(top, 'new'), join(top, 'new', 'deep'), join(top, 'new', 'deep', 'exit')]);
  t.same(
    made.map((dir) => [owner(dir), lstatSync(dir).mode & 0o777]),
    [
      [0, 0o755],
      [0, 0o755],
      [LAB_UID, 0o700],
    ],
  );
  removeMade(made);
  t.notOk(existsSync(join(top, 'new')));

  const strange = place('strange', 'passwd', 'shadow');
  t.throws(() => handOver(strange, USER), { code: 'state-unreadable', message: /files that are not vpnd's/ });
  t.equal(owner(join(strange, 'passwd')), 0);

  const others = place('others', 'identity.key');
  chownSync(others, 65_534, 65_534);
  t.throws(() => handOver(others, USER), { code: 'state-unreadable', message: /belongs to the user with id 65534/ });

  // Whoever may change the directory above could put a link there at the right moment.
  const open = place('open');
  chmodSync(open, 0o777);
  mkdirSync(join(open, 'exit'));
  for (const dir of [join(open, 'exit'), join(open, 'not-there')])
    t.throws(() => handOver(dir, USER), { code: 'state-unreadable', message: /others than root may change/ });
  t.equal(owner(join(open, 'exit')), 0);
  chmodSync(open, 0o1777);
  handOver(join(open, 'exit'), USER);
  t.equal(owner(join(open, 'exit')), LAB_UID, 'in /tmp, what is root’s stays where it is');
  symlinkSync(strange, join(open, 'planted'));
  lchownSync(join(open, 'planted'), 65_534, 65_534);
  t.throws(() => handOver(join(open, 'planted'), USER), { code: 'state-unreadable' });
  symlinkSync(place('elsewhere', 'identity.key'), join(top, 'moved'));
  handOver(join(top, 'moved'), USER);
  t.equal(owner(join(top, 'elsewhere', 'identity.key')), LAB_UID, 'root’s own links are root’s will');

  const mine = place('mine', 'identity.key', 'vpnd.db');
  handOver(mine, USER);
  writeFileSync(join(mine, 'vpnd.pid'), '', { mode: 0o600 });
  linkSync(join(strange, 'shadow'), join(mine, 'stolen'));
  symlinkSync(join(strange, 'passwd'), join(mine, 'link'));
  handOver(mine, USER);
  t.equal(owner(join(mine, 'vpnd.pid')), LAB_UID, 'what root left there later is given too');
  t.equal(owner(join(strange, 'shadow')), 0, 'but no file that has another name');
  t.equal(owner(join(strange, 'passwd')), 0, 'and nothing behind a link');
});
