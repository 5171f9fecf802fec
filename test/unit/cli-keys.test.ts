import t from 'tap';
import type { RotateKeyRequest } from '../../src/gen/vpnd/v1/admin_pb.js';
import { VpndError } from '../../src/model/errors.js';
import { oneLine, serveDaemon, stack, vpnd } from '../support/command-line.js';

const UNTIL = Date.UTC(2026, 10, 27);

/** What the daemon was asked, in order, beside its socket. */
async function daemon(t: Parameters<typeof serveDaemon>[0], role: 'base' | 'exit') {
  const asked: Pick<RotateKeyRequest, 'what' | 'now' | 'overlapMs' | 'reason'>[] = [];
  const socket = await serveDaemon(
    t,
    {
      status: async () => ({}),
      rotateKey: async ({ what, now, overlapMs, reason }) => {
        asked.push({ what, now, overlapMs, reason });
        return { text: `the ${what} key is another one`, untilMs: BigInt(UNTIL) };
      },
    },
    role,
  );
  return { asked, at: ['--socket', socket] };
}

t.test('the commands explain themselves, and no kind of key is rotated unnamed', async (t) => {
  for (const words of [['wireguard'], ['ca'], ['base']]) {
    const ran = await vpnd(['keys', 'rotate', ...words, '--help']);
    t.match(ran, { status: 0, err: '' }, words.join(' '));
    t.match(ran.out, /^Usage: vpnd keys rotate/);
    t.match(ran.out, /Examples?:\n {2}vpnd keys rotate /);
  }
  t.match((await vpnd(['keys', 'rotate', '--help'])).out, /wireguard[\s\S]*ca[\s\S]*base/);
  for (const wrong of [['identity'], ['everything'], ['']]) {
    const ran = await vpnd(['keys', 'rotate', ...wrong]);
    t.equal(ran.status, 2, wrong.join(' '));
    t.notMatch(ran.err, stack);
  }
});

t.test('what a person says is what the daemon is asked, and its answer is printed as it is', async (t) => {
  const exit = await daemon(t, 'exit');
  const printed = { status: 0, out: 'the wireguard key is another one\n', err: '' };
  t.match(await vpnd(['keys', 'rotate', 'wireguard', ...exit.at]), printed);
  t.match(await vpnd(['keys', 'rotate', 'wireguard', '--now', '--reason', 'a lost laptop', ...exit.at]), printed);
  t.same(exit.asked, [
    { what: 'wireguard', now: false, overlapMs: 0n, reason: '' },
    { what: 'wireguard', now: true, overlapMs: 0n, reason: 'a lost laptop' },
  ]);

  const base = await daemon(t, 'base');
  t.match(await vpnd(['keys', 'rotate', 'ca', '--overlap', '7d', ...base.at]), { status: 0 });
  const json = await vpnd(['keys', 'rotate', 'base', '--json', ...base.at]);
  t.match(JSON.parse(json.out), { text: 'the base key is another one', untilMs: String(UNTIL) });
  t.same(base.asked, [
    { what: 'ca', now: false, overlapMs: BigInt(7 * 86_400_000), reason: '' },
    { what: 'base', now: false, overlapMs: 0n, reason: '' },
  ]);
});

t.test('what cannot be is refused before anybody is asked', async (t) => {
  const { asked, at } = await daemon(t, 'base');
  for (const [args, why] of [
    [['ca', '--overlap', 'soon'], /--overlap: 'soon' is not a duration/],
    [['ca', '--overlap', '0s'], /--overlap: '0s' /],
    [['ca', '--overlap', '400d'], /--overlap: '400d' /],
    [['ca', '--now'], /unknown option '--now'/],
    [['wireguard', '--overlap', '7d'], /unknown option '--overlap'/],
    [['ca', 'base'], /too many arguments/],
  ] as const) {
    const ran = await vpnd(['keys', 'rotate', ...args, ...at]);
    t.equal(ran.status, 2, args.join(' '));
    t.match(ran.err, why);
  }
  t.same(asked, []);
});

t.test('a daemon that cannot says why in one line', async (t) => {
  const refuses = (error: VpndError) =>
    serveDaemon(t, { status: async () => ({}), rotateKey: async () => Promise.reject(error) }, 'base');
  for (const [status, error] of [
    [2, new VpndError('bad-config', 'an overlap is at least two lifetimes of a certificate: 48h')],
    [1, new VpndError('draining', 'another key is being replaced')],
    [1, new VpndError('disk-full', 'the disk is full')],
  ] as const) {
    const ran = await vpnd(['keys', 'rotate', 'ca', '--socket', await refuses(error)]);
    t.match(ran, { status, out: '', err: oneLine });
    t.match(ran.err, error.message);
  }
  const without = await serveDaemon(t, { status: async () => ({}) }, 'client');
  const ran = await vpnd(['keys', 'rotate', 'wireguard', '--socket', without]);
  t.match(ran, { status: 1, out: '', err: oneLine }, 'a client has no such key');
  const nobody = await vpnd(['keys', 'rotate', 'ca', '--socket', '/nowhere/vpnd.sock']);
  t.match(nobody, { status: 1, out: '', err: oneLine });
});
