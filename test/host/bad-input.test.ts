import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t from 'tap';
import { Overlay, OverlayNode, vpnd } from '../../chaos/overlay/index.js';
import { hours } from '../../src/model/time.js';
import {
  AS_NOBODY,
  type BadInput,
  BadInputs,
  clockOff,
  withMounts,
  withoutKernelWireGuard,
  withoutProgram,
} from '../support/bad-input.js';

const bad = new BadInputs();
const overlay = await Overlay.build();
t.teardown(() => overlay.close());
const { base } = overlay;
await base.start();
/** Where everything is tried for the first time: nothing of vpnd has ever run on it. */
const newcomer = await overlay.lab.publicHost('newcomer', { ipv4: '198.51.100.30' });

let made = 0;
/** A state directory that is not there yet. */
const nowhere = (name: string): string => join(newcomer.directory, String(++made), name);

/** A first start of a member on the new machine; its state directory must not be there afterwards. */
const firstStart = (
  role: 'client' | 'exit' | 'supernode',
  token: string | undefined,
  rest: Omit<BadInput, 'host' | 'argv' | 'status'> & { readonly argv?: readonly string[]; readonly status?: 1 | 2 },
): BadInput => {
  const dir = nowhere(role);
  const { argv = [], env, ...more } = rest;
  return {
    host: newcomer,
    status: 1,
    argv: [role, '--state-dir', dir, '--log-level', 'error', ...argv],
    env: { ...env, ...(token === undefined ? {} : { VPND_JOIN: token }) },
    untouched: [join(dir, '..')],
    ...more,
  };
};

const usesLeft = async (): Promise<number> => {
  const tokens = await base.json<{ usesLeft?: number }[]>('token', 'list');
  return tokens.reduce((sum, one) => sum + (one.usesLeft ?? 0), 0);
};

t.test('join tokens', async (t) => {
  const good = await overlay.token('client', 'eu');
  const unspent = await usesLeft();

  const damaged = good.slice(0, 20) + (good[20] === 'a' ? 'b' : 'a') + good.slice(21);
  await bad.refused(
    t,
    firstStart('client', damaged, {
      input: 'bad token',
      status: 2,
      says: [/--join: this join token is damaged/, /copy it again whole/],
    }),
  );
  await bad.refused(
    t,
    firstStart('client', 'my-token', {
      input: 'not a token at all',
      status: 2,
      says: [/--join \(from VPND_JOIN\)/, /not a join token/, /vpnd token create/],
    }),
  );
  await bad.refused(t, firstStart('client', undefined, { input: 'no token', says: [/--join/, /vpnd token create/] }));
  await bad.refused(
    t,
    firstStart('client', good, {
      input: 'wrong region',
      argv: ['--region', 'us'],
      says: [/for region eu, not us/, /leave --region out/],
    }),
  );
  await bad.refused(
    t,
    firstStart('exit', good, { input: 'wrong role', says: [/for role client, not exit/, /ask for/] }),
  );
  for (const [input, shift, says] of [
    ['clock an hour ahead', hours(1), /clock is 60 min ahead of base's/],
    ['clock an hour behind', -hours(1), /clock is 60 min behind base's/],
  ] as const)
    await bad.refused(t, firstStart('client', good, { input, env: clockOff(shift), says: [says, /set it/] }));
  t.equal(await usesLeft(), unspent, 'no token was spent on any of these');

  const spent = await overlay.token('client', 'eu');
  const first = new OverlayNode('first', newcomer, 'client', []);
  await first.spawn({ token: spent }).waitForLine(/ started: /);
  await first.stop();
  await bad.refused(t, firstStart('client', spent, { input: 'used token', says: [/has been used up/, /ask for/] }));

  // What base allows a supernode is known when it is enrolled; its enrolment stays, for another token to add to it.
  const plain = firstStart('supernode', await overlay.token('supernode', 'eu'), {
    input: 'a supernode that may not be an exit',
    argv: ['--advertise', '198.51.100.30', '--egress'],
    says: [/may not be an exit/, /vpnd token create --role supernode --egress/],
  });
  await bad.refused(t, { ...plain, untouched: [] });
});

t.test('another base, and an hour later', async (t) => {
  const host = await overlay.lab.publicHost('base2', { ipv4: '198.51.100.6' });
  const other = (address: string) =>
    new OverlayNode('another base', host, 'base', ['--listen', '0.0.0.0:7400', '--advertise', `${address}:7400`]);
  const make = async (node: OverlayNode) => {
    const ttl = ['--role', 'client', '--region', 'eu', '--ttl', '1m'];
    return (await node.json<{ token: string }>('token', 'create', ...ttl)).token;
  };

  const impostor = other('198.51.100.5');
  await impostor.start();
  await bad.refused(
    t,
    firstStart('client', await make(impostor), {
      input: 'wrong CA',
      says: [/198\.51\.100\.5:7400 is not of the overlay that the token is for/, /CA/, /ask/],
    }),
  );
  await impostor.stop();

  const honest = other('198.51.100.6');
  await honest.start();
  const token = await make(honest);
  await honest.stop();
  const later = host.spawn(vpnd(...honest.commandLine), { env: clockOff(hours(1)) });
  await later.waitForLine(/ ready: /);
  await bad.refused(
    t,
    firstStart('client', token, {
      input: 'expired token',
      env: clockOff(hours(1)),
      says: [/expired/, /ask for a new/],
    }),
  );
  await later.stop();
});

t.test('ports', async (t) => {
  const token = await overlay.token('supernode', 'eu');
  const unspent = await usesLeft();
  const taken = newcomer.spawn([
    process.execPath,
    '-e',
    `for (const port of [443, 7400, 9471]) require('node:net').createServer().listen(port);
     require('node:dgram').createSocket('udp4').bind(3478, () => console.log('listening'));`,
  ]);
  await taken.waitForLine(/listening/);
  const here = ['--advertise', '198.51.100.30'];
  const cases: readonly [string, readonly string[], RegExp[]][] = [
    ['port in use (gRPC)', [], [/0\.0\.0\.0:443 is in use/, /--listen/]],
    ['port in use (metrics)', ['--listen', '0.0.0.0:444'], [/metrics: 127\.0\.0\.1:9471 is in use/, /--metrics/]],
    [
      'port in use (probe port)',
      ['--listen', '0.0.0.0:444', '--metrics', 'off', '--probe-port', '3478'],
      [/UDP port 3478 is in use/, /--probe-port/],
    ],
  ];
  for (const [input, argv, says] of cases)
    await bad.refused(t, firstStart('supernode', token, { input, argv: [...here, ...argv], says }));
  const dir = nowhere('base');
  await bad.refused(t, {
    input: "base's port in use",
    host: newcomer,
    argv: ['base', '--state-dir', dir, '--log-level', 'error', ...here],
    status: 1,
    says: [/0\.0\.0\.0:7400 is in use/, /--listen/],
    untouched: [join(dir, '..')],
  });
  t.equal(await usesLeft(), unspent, 'and the token can still be used');
  await taken.stop();
});

t.test('what the machine lacks', async (t) => {
  const token = await overlay.token('exit', 'eu');
  const unspent = await usesLeft();
  const lacking = (input: string, wrap: readonly string[], says: readonly RegExp[], argv: readonly string[] = []) =>
    bad.refused(t, firstStart('exit', token, { input, wrap, says, argv }));
  // Where the kernel has WireGuard itself, nobody asks for TUN.
  const userspace = ['--dataplane', 'userspace'];
  const hideTun = (by: string) => withMounts(`mount ${by}`);
  await lacking('no root', AS_NOBODY, [/run it as root/, /CAP_NET_ADMIN/]);
  await lacking(
    'no TUN',
    hideTun('-t tmpfs none /dev/net'),
    [/\/dev\/net\/tun cannot be opened/, /modprobe tun/],
    userspace,
  );
  const nullDevice = hideTun('--bind /dev/null /dev/net/tun');
  await lacking('a /dev/net/tun that is none', nullDevice, [/is not the TUN device/, /mknod/], userspace);
  const nft = withoutProgram(newcomer, '/usr/sbin/nft');
  await lacking('no nft', nft, [/nft is not installed/, /apt-get install nftables/]);
  const wireguardGo = withoutProgram(newcomer, '/usr/bin/wireguard-go');
  await lacking(
    'no wireguard-go, and no WireGuard in the kernel',
    [...(await withoutKernelWireGuard(newcomer)), ...wireguardGo],
    [/this kernel has no WireGuard and wireguard-go is not installed/, /apt-get install wireguard-go/],
  );
  t.equal(await usesLeft(), unspent, 'the token can still be used');
});

t.test('usage and configuration', async (t) => {
  await bad.refused(
    t,
    firstStart('client', undefined, {
      input: 'unknown flag',
      argv: ['--privcy', 'private'],
      status: 2,
      says: [/unknown option '--privcy'/, /did you mean --privacy/, /vpnd client --help/],
    }),
  );
  const cidr = (input: string, given: string, says: readonly RegExp[]) =>
    bad.refused(t, {
      input,
      host: newcomer,
      argv: ['base', '--state-dir', nowhere('base'), '--advertise', '198.51.100.30', '--pool-ipv4', given],
      status: 2,
      says: [/--pool-ipv4/, ...says],
      untouched: [join(newcomer.directory, String(made), '..')],
    });
  await cidr('bad CIDR', '10.0.0.0/33', [/'10\.0\.0\.0\/33' is not a CIDR like/]);
  await cidr('CIDR with host bits', '10.1.2.3/13', [/has host bits set; the network is 10\.0\.0\.0\/13/]);
});

t.test('the state directory', async (t) => {
  const enrolled = new OverlayNode('enrolled', newcomer, 'client', []).stateDir;
  const start = (
    dir: string,
    rest: Pick<BadInput, 'input' | 'says' | 'wrap'> & { readonly status?: 1 | 2 },
    role = 'client',
  ) =>
    bad.refused(t, {
      host: newcomer,
      argv: [
        role,
        '--state-dir',
        dir,
        '--log-level',
        'error',
        ...(role === 'base' ? ['--advertise', '198.51.100.30'] : []),
      ],
      status: 1,
      untouched: [dir],
      ...rest,
    });
  const copy = async (): Promise<string> => {
    const dir = nowhere('client');
    await newcomer.exec(['mkdir', '-p', join(dir, '..')]);
    await newcomer.exec(['cp', '-a', enrolled, dir]);
    return dir;
  };

  const foreign = nowhere('base');
  await newcomer.exec(['mkdir', '-p', '-m', '0700', foreign]);
  await start(
    foreign,
    {
      input: 'unreadable state directory',
      wrap: AS_NOBODY,
      says: [/permission denied/, /as the user that owns it/],
    },
    'base',
  );
  const file = nowhere('client');
  mkdirSync(join(file, '..'));
  writeFileSync(file, 'a letter');
  await start(file, { input: 'state directory that is a file', says: [/not a directory/, /--state-dir/] });

  const torn = await copy();
  const database = readFileSync(join(torn, 'vpnd.db'));
  const middle = 4096 * Math.floor(database.length / 8192);
  writeFileSync(join(torn, 'vpnd.db'), Buffer.from(database).fill(0xa5, middle, middle + 4096));
  await start(torn, { input: 'corrupt database (a page overwritten)', says: [/vpnd\.db is damaged/, /restore it/] });
  const short = await copy();
  writeFileSync(join(short, 'vpnd.db'), database.subarray(0, middle + 100));
  await start(short, { input: 'corrupt database (cut short)', says: [/vpnd\.db is damaged/, /restore it/] });
  const newer = await copy();
  const db = new Database(join(newer, 'vpnd.db'));
  db.pragma('user_version = 999');
  db.close();
  await start(newer, { input: 'database of a newer version', says: [/newer vpnd/, /999/, /upgrade vpnd/] });

  await start(await copy(), { input: 'another role than before', status: 2, says: [/client/, /--state-dir/] }, 'exit');
  await bad.refused(t, {
    input: 'another region than before',
    host: newcomer,
    argv: ['client', '--state-dir', await copy(), '--region', 'us', '--log-level', 'error'],
    status: 1,
    says: [/enrolled in region eu, not us/, /enrol it anew/],
    untouched: [join(newcomer.directory, String(made))],
  });
});

t.test('a full disk at the start', async (t) => {
  const token = await overlay.token('client', 'eu');
  const unspent = await usesLeft();
  const full = async (kilobytes: number): Promise<string> => {
    const place = join(newcomer.directory, String(++made));
    await newcomer.exec(['mkdir', '-p', place]);
    await newcomer.exec(['mount', '-t', 'tmpfs', '-o', `size=${kilobytes}k`, 'none', place]);
    return place;
  };
  for (const [input, room] of [
    ['full disk', 0],
    ['full disk (room for keys, none for the database)', 40],
  ] as const) {
    const place = await full(64);
    await newcomer.exec([
      'dd',
      'if=/dev/zero',
      `of=${join(place, 'data')}`,
      'bs=1k',
      `count=${64 - room}`,
      'status=none',
    ]);
    await bad.refused(t, {
      input,
      host: newcomer,
      argv: ['client', '--state-dir', join(place, 'client'), '--log-level', 'error'],
      env: { VPND_JOIN: token },
      status: 1,
      says: [/the disk is full/, /free some space/],
      untouched: [place],
    });
  }
  t.equal(await usesLeft(), unspent, 'the token can still be used');
});

t.test('the document', async (t) => bad.compareWithDocument(t, 'Starting a daemon'));
