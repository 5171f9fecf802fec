import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { renderPortal } from '../../dataplane/portal-text.js';
import type { PortalPass } from '../../src/core/ports/portal.js';
import type { IpAddress } from '../../src/model/address.js';
import { VpndError } from '../../src/model/errors.js';
import { minutes, ms, seconds } from '../../src/model/time.js';
import { PortalKeeper } from '../../src/roles/client/portal.js';
import { testLog } from '../support/test-log.js';
import { VirtualClock } from '../support/virtual-clock.js';

const RESOLVERS = ['192.168.2.1', 'fe80::1'] as readonly string[] as readonly IpAddress[];

function scene() {
  const clock = new VirtualClock();
  const world = {
    isHeld: true,
    isUp: false,
    page: 'http://login.hotel.example/' as string | undefined,
    inTheWay: true as boolean | undefined,
    pass: undefined as PortalPass | undefined,
    fault: undefined as VpndError | undefined,
  };
  const told: string[] = [];
  const keeper = new PortalKeeper({
    clock,
    log: testLog(),
    portal: {
      resolvers: async () => RESOLVERS,
      open: async (pass) => {
        if (world.fault !== undefined) throw world.fault;
        world.pass = pass;
      },
      close: async () => {
        if (world.fault !== undefined) throw world.fault;
        world.pass = undefined;
      },
    },
    isHeld: () => world.isHeld,
    isUp: () => world.isUp,
    page: () => world.page,
    isInTheWay: async () => world.inTheWay,
    happened: (code, text) => told.push(`${code}: ${text}`),
    changed: () => {},
  });
  return { clock, world, told, keeper };
}

t.test('open for as long as was said, and then closed', async (t) => {
  const { clock, world, told, keeper } = scene();
  const open = await clock.run(keeper.open(minutes(5)));
  t.same(open.resolvers, RESOLVERS);
  t.equal(open.url, 'http://login.hotel.example/');
  t.same(world.pass, { resolvers: RESOLVERS, duration: minutes(5) });
  t.match(keeper.text, /for 300 s at most/);
  await clock.advance(minutes(5) - 2_000);
  t.ok(world.pass);
  await clock.advance(seconds(4));
  t.equal(world.pass, undefined);
  t.equal(keeper.text, undefined);
  t.match(told, [/^portal: open for a log-in/, /^portal: closed again: the time is over/]);
  await clock.advance(minutes(10));
  t.equal(told.length, 2);
});

t.test('closed as soon as a supernode is reached', async (t) => {
  const { clock, world, told, keeper } = scene();
  await clock.run(keeper.open(minutes(5)));
  await clock.advance(seconds(10));
  world.isUp = true;
  await clock.advance(seconds(1));
  t.equal(world.pass, undefined);
  t.match(told.at(-1), /a supernode is reached/);
});

t.test('closed when the page is gone, and not because it was missed once', async (t) => {
  const { clock, world, told, keeper } = scene();
  await clock.run(keeper.open(minutes(5)));
  await clock.advance(seconds(5));
  world.inTheWay = false;
  await clock.advance(seconds(3));
  world.inTheWay = true;
  await clock.advance(seconds(20));
  t.ok(world.pass);
  world.inTheWay = false;
  await clock.advance(seconds(9));
  t.equal(world.pass, undefined);
  t.match(told.at(-1), /the log-in page is gone/);
});

t.test('a network whose page was never seen is given its time', async (t) => {
  const { clock, world, keeper } = scene();
  world.page = undefined;
  world.inTheWay = false;
  await clock.run(keeper.open(minutes(2)));
  await clock.advance(minutes(1));
  t.ok(world.pass);
  await clock.advance(minutes(1) + 2_000);
  t.equal(world.pass, undefined);
});

t.test('once more begins the time anew, in one opening', async (t) => {
  const { clock, world, told, keeper } = scene();
  await clock.run(keeper.open(minutes(1)));
  await clock.advance(seconds(50));
  await clock.run(keeper.open(minutes(1)));
  await clock.advance(seconds(50));
  t.ok(world.pass);
  await clock.run(keeper.close('asked for by hand'));
  t.equal(world.pass, undefined);
  t.equal(told.length, 2);
});

t.test('not opened where it is not needed, nor believed open where it is not', async (t) => {
  const { clock, world, told, keeper } = scene();
  world.isUp = true;
  await t.rejects(clock.run(keeper.open(minutes(1))), { code: 'not-found', message: /no log-in page is in the way/ });
  world.isUp = false;
  world.isHeld = false;
  await t.rejects(clock.run(keeper.open(minutes(1))), { code: 'not-found', message: /any browser/ });
  world.isHeld = true;
  world.fault = new VpndError('dataplane', 'nft failed');
  await t.rejects(clock.run(keeper.open(minutes(1))), { code: 'dataplane' });
  t.equal(keeper.text, undefined);
  t.same(told, []);
});

t.test('what cannot be closed is tried again; a stop closes, and so does the next start', async (t) => {
  const { clock, world, keeper } = scene();
  await clock.run(keeper.open(minutes(1)));
  world.fault = new VpndError('dataplane', 'nft failed');
  await clock.advance(minutes(1) + 2_000);
  t.ok(world.pass);
  world.fault = undefined;
  await clock.advance(seconds(2));
  t.equal(world.pass, undefined);
  await clock.run(keeper.open(minutes(1)));
  await clock.run(keeper.stop());
  t.equal(world.pass, undefined);
  world.pass = { resolvers: [], duration: ms(1) };
  await clock.run(keeper.start());
  t.equal(world.pass, undefined);
});

t.test('the rules, as text', async (t) => {
  const text = renderPortal('vpnd_client_portal', 'unified/vpnd-portal', {
    resolvers: RESOLVERS,
    duration: minutes(5),
  });
  const path = join(process.cwd(), 'test/golden/dataplane/portal.nft');
  t.equal(text, existsSync(path) ? readFileSync(path, 'utf8') : '');
  t.notMatch(
    text,
    /(?<!policy )accept|dport (?!@web|53)/,
    'it lets nothing through by itself, and names no other port',
  );
  for (const set of ['web', 'resolvers4', 'resolvers6']) {
    t.match(text, new RegExp(`set ${set} \\{[^}]*flags timeout[^}]*timeout 300s`), `${set} empties by itself`);
  }
});
