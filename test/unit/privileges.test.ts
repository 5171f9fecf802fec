import t from 'tap';
import { programsInherit } from '../../dataplane/detect.js';
import { cleanEnvironment, createRunner, findProgram } from '../../dataplane/run.js';
import { type Account, type Accounts, accountFor, userOf } from '../../src/cli/account.js';
import { dropArguments } from '../../src/cli/become-user.js';
import { checkUser } from '../../src/cli/doctor-machine.js';
import { rememberingReader } from '../../src/cli/handover.js';
import { capabilitiesFor } from '../../src/cli/privileges.js';
import { parseConfig } from '../../src/config/parse.js';
import { userName } from '../../src/config/values.js';
import { VpndError } from '../../src/model/errors.js';
import type { Role } from '../../src/model/role.js';

const VPND: Account = { name: 'vpnd', uid: 998, gid: 997 };

/** Accounts of a machine that has these, and makes the role's own unless it says why not. */
function accounts(have: Account[], why?: VpndError): Accounts & { readonly made: string[] } {
  const made: string[] = [];
  return {
    made,
    find: async (user) => have.find(({ name, uid }) => name === user || String(uid) === user),
    async make(name) {
      made.push(name);
      if (why !== undefined) throw why;
      have.push({ ...VPND, name });
    },
  };
}

t.test('each role has its user, base one of its own', async (t) => {
  t.equal(userOf('base'), 'vpnd-base');
  for (const role of ['supernode', 'exit', 'client'] as const) t.equal(userOf(role), 'vpnd');
  const machine = accounts([]);
  t.match(await accountFor('exit', undefined, machine), VPND);
  t.match(await accountFor('client', undefined, machine), VPND);
  t.same(machine.made, ['vpnd'], 'made once');
  t.match(await accountFor('exit', '998', machine), VPND, 'by number too');
  await t.rejects(accountFor('exit', 'mallory', machine), { code: 'bad-config', message: /no user 'mallory'/ });
  t.same(machine.made, ['vpnd'], 'and no other is made');
  const full = accounts([], new VpndError('no-root', 'there is no user vpnd, and it cannot be made (read-only)'));
  await t.rejects(accountFor('exit', undefined, full), { code: 'no-root', message: /cannot be made/ });
  t.equal(full.made.length, 1, 'what cannot work is not tried again');
});

t.test('what a name may be', async (t) => {
  for (const good of ['root', 'vpnd', '_vpnd-2', '0', '64123', '4294967294'])
    t.same(userName(good), { ok: true, value: good });
  for (const bad of ['', '-1', 'a b', '../etc', 'Vpnd', '4294967295', 'x'.repeat(33), '$(id)', '1a'])
    t.match(userName(bad), { ok: false }, bad);
});

t.test('capabilities: none for base, one for those that forward, another one for a port below 1024', async (t) => {
  const of = (role: Role, flags: Record<string, string>) => {
    const config = parseConfig(role, { flags, env: {}, file: undefined, read: () => '' });
    if (!config.ok) throw config.error;
    return [...capabilitiesFor(config.value, 1024)];
  };
  t.same(of('base', { advertise: '192.0.2.1' }), []);
  t.same(of('base', { advertise: '192.0.2.1', listen: '0.0.0.0:443' }), ['net_bind_service']);
  t.same(of('supernode', { advertise: '192.0.2.1' }), ['net_admin', 'net_bind_service']);
  const high = { advertise: '192.0.2.1', listen: '0.0.0.0:8443' };
  t.same(of('supernode', high), ['net_admin']);
  t.same(of('supernode', { ...high, 'listen-also': '0.0.0.0:443' }), ['net_admin', 'net_bind_service']);
  t.same(of('supernode', { ...high, 'probe-port': '500' }), ['net_admin', 'net_bind_service']);
  t.same(of('supernode', { ...high, 'wireguard-port': '53' }), ['net_admin'], 'a port that it does not open');
  t.same(of('supernode', { ...high, 'wireguard-port': '53', egress: 'on' }), ['net_admin', 'net_bind_service']);
  t.same(of('exit', {}), ['net_admin']);
  t.same(of('exit', { 'wireguard-port': '53' }), ['net_admin', 'net_bind_service']);
  t.same(of('client', { dataplane: 'memory' }), []);
});

t.test('setpriv is told everything that is to go', async (t) => {
  t.same(dropArguments(VPND, ['net_admin']), [
    ...['--reuid', '998', '--regid', '997', '--clear-groups'],
    ...['--inh-caps=-all,+net_admin', '--ambient-caps=-all,+net_admin', '--bounding-set=-all,+net_admin'],
    ...['--no-new-privs', '--pdeathsig', 'KILL', '--'],
  ]);
  t.match(dropArguments(VPND, []), ['--reuid', '998', '--regid', '997', '--clear-groups', '--inh-caps=-all']);
});

t.test('whether programs get the capability is seen from the process', async (t) => {
  const status = (uid: number, effective: string, ambient: string) => () =>
    `Name:\tnode\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\nCapEff:\t${effective}\nCapAmb:\t${ambient}\n`;
  t.equal(programsInherit(status(0, '000001ffffffffff', '0000000000000000')), true, 'root’s do');
  t.equal(programsInherit(status(998, '0000000000001000', '0000000000001000')), true, 'a unit’s do');
  t.equal(programsInherit(status(998, '0000000000001000', '0000000000000000')), false, 'setcap alone is not enough');
});

t.test('programs come from system directories whatever PATH says, and get two variables', async (t) => {
  const before = process.env.PATH;
  t.teardown(() => {
    process.env.PATH = before;
  });
  process.env.PATH = t.testdir({ ip: '#!/bin/sh\nexit 1\n', 'only-here': '' });
  t.match(findProgram('ip'), /^\/(usr\/)?(local\/)?s?bin\/ip$/);
  t.equal(findProgram('only-here'), undefined);
  t.match(createRunner().find('ip'), /^\/(usr\/)?(local\/)?s?bin\/ip$/);
  t.same(Object.keys(cleanEnvironment()).sort(), ['LC_ALL', 'PATH']);
  t.notMatch(cleanEnvironment().PATH, /(^|:)(\.|)(:|$)/, 'no working directory in it');
});

t.test('what root read is what the daemon reads, errors included', async (t) => {
  const dir = t.testdir({ token: 'vpnd1abc' });
  const root = rememberingReader();
  t.equal(root.read(`${dir}/token`), 'vpnd1abc');
  t.throws(() => root.read(`${dir}/missing`), { code: 'ENOENT' });
  const daemon = rememberingReader(JSON.parse(JSON.stringify(root.files)));
  const { rmSync, writeFileSync } = await import('node:fs');
  rmSync(`${dir}/token`);
  writeFileSync(`${dir}/missing`, 'later');
  t.equal(daemon.read(`${dir}/token`), 'vpnd1abc');
  t.throws(() => daemon.read(`${dir}/missing`), { code: 'ENOENT' });
});

t.test('the doctor says whom a daemon would become', async (t) => {
  const all = (name: string) => `/usr/bin/${name}`;
  const none = async () => undefined;
  t.match(await checkUser('exit', 1000, none, all), { result: 'ok', text: /runs as this user \(id 1000\)/ });
  t.match(await checkUser('exit', 0, async () => VPND, all), { result: 'ok', text: /becomes vpnd \(id 998\)/ });
  t.match(await checkUser('base', 0, none, all), { result: 'ok', text: /vpnd-base, made at the first start/ });
  const without = (missing: string) => (name: string) => (name === missing ? undefined : all(name));
  t.match(await checkUser('exit', 0, none, without('useradd')), { result: 'fail', text: /no useradd/, todo: /--user/ });
  t.match(await checkUser('exit', 0, none, without('setpriv')), { result: 'fail', todo: /util-linux/ });
});
