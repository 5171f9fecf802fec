import t from 'tap';
import type { RevokeMemberRequest, UnrevokeMemberRequest } from '../../src/gen/vpnd/v1/admin_pb.js';
import { Role as WireRole } from '../../src/gen/vpnd/v1/types_pb.js';
import { VpndError } from '../../src/model/errors.js';
import { oneLine, serveDaemon, stack, vpnd } from '../support/command-line.js';

const EXIT = 'k3vq7a2mzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzza';
const CLIENT = 'abcd7a2mzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzza';

t.test('the commands explain themselves, with examples', async (t) => {
  for (const words of [['members'], ['revoke'], ['unrevoke'], ['supernode', 'ban'], ['supernode', 'unban']]) {
    const ran = await vpnd([...words, '--help']);
    t.match(ran, { status: 0, err: '' }, words.join(' '));
    t.match(ran.out, /^Usage: vpnd/);
    t.match(ran.out, /Examples?:\n {2}vpnd /);
  }
});

t.test('nodes are shut out and let in again, by a beginning of their id', async (t) => {
  const asked: (Partial<RevokeMemberRequest> | Partial<UnrevokeMemberRequest>)[] = [];
  const socket = await serveDaemon(
    t,
    {
      status: async () => ({}),
      revokeMember: async ({ peer, supernode, reason }) => {
        asked.push({ peer, supernode, reason });
        return { peerId: EXIT, epoch: 7n, changed: reason !== '', told: 3 };
      },
      unrevokeMember: async ({ peer, supernode }) => {
        asked.push({ peer, supernode });
        return { peerId: EXIT, epoch: 8n, changed: !supernode, told: 1 };
      },
    },
    'base',
  );
  const at = ['--socket', socket];
  t.match(await vpnd(['revoke', ' k3vq7a2m\n', '--reason', 'laptop stolen', ...at]), {
    status: 0,
    out: `${EXIT} is shut out (epoch 7); 3 supernodes were told at once\n`,
    err: '',
  });
  t.match(await vpnd(['revoke', 'k3vq7a2m', ...at]), { status: 0, out: `${EXIT} was shut out already\n` });
  t.match(await vpnd(['unrevoke', 'k3vq7a2m', ...at]), {
    status: 0,
    out: `${EXIT} is let in again (epoch 8); 1 supernode was told at once\n`,
  });
  t.match(await vpnd(['supernode', 'ban', EXIT, '--reason', 'broken into', ...at]), { status: 0, out: /is shut out/ });
  t.match(await vpnd(['supernode', 'unban', EXIT, ...at]), { status: 0, out: `${EXIT} was not shut out\n` });
  t.match(JSON.parse((await vpnd(['revoke', EXIT, '--reason', 'x', '--json', ...at])).out), {
    peerId: EXIT,
    epoch: '7',
    changed: true,
    told: 3,
  });
  t.same(asked.slice(0, 5), [
    { peer: 'k3vq7a2m', supernode: false, reason: 'laptop stolen' },
    { peer: 'k3vq7a2m', supernode: false, reason: '' },
    { peer: 'k3vq7a2m', supernode: false },
    { peer: EXIT, supernode: true, reason: 'broken into' },
    { peer: EXIT, supernode: true },
  ]);
});

t.test('members are a table, or JSON; what others wrote cannot steer a terminal', async (t) => {
  const members = [
    {
      peerId: EXIT,
      roles: [WireRole.EXIT],
      region: 'eu',
      pool: 'home',
      tokenId: '1a2b3c4d',
      enrolledMs: 1_700_000_000_000n,
    },
    {
      peerId: CLIENT,
      roles: [WireRole.SUPERNODE, WireRole.EXIT],
      region: 'us',
      enrolledMs: 1_700_000_000_000n,
      revokedMs: 1_700_000_100_000n,
      reason: 'stolen\u001b[2J',
    },
  ];
  const socket = await serveDaemon(
    t,
    {
      status: async () => ({}),
      // In two parts.
      listMembers: async ({ after }) =>
        after === ''
          ? { members: members.slice(0, 1), epoch: 4n, next: CLIENT }
          : { members: members.slice(1), epoch: 4n },
    },
    'base',
  );
  t.equal(
    (await vpnd(['members', '--socket', socket])).out,
    [
      'PEER              ROLE            REGION  POOL  TOKEN     ENROLLED              STATE',
      'k3vq7a2mzzzzzzzz  exit            eu      home  1a2b3c4d  2023-11-14 22:13 UTC  member',
      'abcd7a2mzzzzzzzz  supernode+exit  us      -     -         2023-11-14 22:13 UTC  shut out 2023-11-14 22:15 UTC: stolen?[2J',
      '',
    ].join('\n'),
  );
  const only = JSON.parse((await vpnd(['members', '--revoked', '--json', '--socket', socket])).out);
  t.match(only, { epoch: '4', members: [{ peerId: CLIENT, revokedMs: '1700000100000' }] });
  t.equal(only.members.length, 1);
  const nobody = await serveDaemon(t, { status: async () => ({}), listMembers: async () => ({ members: [] }) }, 'base');
  t.match((await vpnd(['members', '--socket', nobody])).out, /vpnd token create/);
  t.match((await vpnd(['members', '--revoked', '--socket', nobody])).out, 'nobody is shut out\n');
});

t.test('wrong usage and refusals are one line', async (t) => {
  const refusal = new VpndError('bad-config', 'k3vq7a2mzz is a supernode: `vpnd supernode ban k3vq7a2mzz`');
  const socket = await serveDaemon(
    t,
    {
      status: async () => ({}),
      revokeMember: async () => {
        throw refusal;
      },
    },
    'base',
  );
  const client = await serveDaemon(t, { status: async () => ({}) }, 'client');
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [['revoke'], 2, /missing required argument 'peer'; see `vpnd revoke --help`/],
    [['revoke', 'a', 'b'], 2, /too many arguments/],
    [['unrevoke'], 2, /missing required argument/],
    [['supernode', 'ban'], 2, /missing required argument/],
    [['supernode', '--region', 'eu', 'ban', EXIT], 2, /--region before `ban` is for running a supernode/],
    [['revoke', EXIT, '--socket', socket], 2, /vpnd supernode ban/],
    [['unrevoke', EXIT, '--socket', socket], 1, /does not know `vpnd unrevoke` yet/],
    [['members', '--socket', client], 1, /this is a client; `vpnd members` is for base/],
    [['supernode', 'ban', EXIT, '--socket', client], 1, /this is a client; `vpnd supernode ban` is for base/],
    [['members', '--state-dir', '/nowhere'], 1, /start it with `vpnd /],
  ];
  for (const [args, status, expected] of cases) {
    const ran = await vpnd(args);
    t.equal(ran.status, status, args.join(' '));
    t.match(ran.err, expected, args.join(' '));
    t.match(ran.err, oneLine);
    t.notMatch(ran.err, stack);
    t.equal(ran.out, '');
  }
});
