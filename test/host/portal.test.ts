import { rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ADDRESSES, Overlay, vpnd } from '../../chaos/overlay/index.js';
import { nameServer } from '../support/name-server.js';
import { eventually } from '../support/overlay-checks.js';

const ROUTER = '192.168.2.1';
const PAGE = 'http://login.hotel.example/?from=lobby';
const DOOR = `table ip hotel\ndelete table ip hotel\ntable ip hotel {
  chain answer {
    type nat hook prerouting priority dstnat - 1; policy accept;
    iifname "lan0" tcp dport 80 redirect to :8080
  }
  chain forward {
    type filter hook forward priority filter - 2; policy accept;
    iifname "lan0" drop
    oifname "lan0" drop
  }
}\n`;
const HOTEL = `
  require('node:http').createServer((request, response) => {
    response.writeHead(302, { location: ${JSON.stringify(PAGE)} });
    response.end();
  }).listen(8080, () => console.log('listening'));
`;

t.test('a network with a log-in page, and all traffic held', { bail: true }, async (t) => {
  const overlay = await Overlay.build({ clientArgs: ['--standby', 'off'] });
  t.teardown(() => overlay.close());
  t.teardown(removeGroup);
  const { client, clientHome } = overlay;
  const { host } = client;
  await host.exec(['mount', '-t', 'cgroup2', 'none', '/sys/fs/cgroup']);
  writeFileSync(join(host.directory, 'resolv.conf'), `nameserver ${ROUTER}\n`);
  const names = await nameServer(clientHome.router, { address: ROUTER });
  const server = clientHome.router.spawn([process.execPath, '-e', HOTEL]);
  await server.waitForLine(/listening/);
  await overlay.startAll();
  const up = await client.cli('up');
  t.equal(up.code, 0, up.stderr);

  await client.stop();
  await clientHome.router.nft(DOOR);
  client.spawn();
  const status = () => client.api.status();
  const isOpen = async () => (await status()).facts.portal !== undefined;
  const problems = async () => (await status().catch(() => undefined))?.problems ?? [];
  await eventually(
    problems,
    (seen) => seen.some((text) => text.includes(PAGE) && /sudo vpnd portal/.test(text)),
    60_000,
  );

  const portal = (...argv: readonly string[]) => vpnd('portal', '--socket', client.socket, ...argv);
  /** Where a page leads; nothing where it is not reached. */
  const ask = (url: string) => ['curl', '-s', '-m', '2', '-o', '/dev/null', '-w', '%{redirect_url}\\n', url];
  const shell = (...lines: readonly string[]) => ['sh', '-c', lines.join('; ')];
  const quoted = (argv: readonly string[]) => argv.map((word) => `'${word}'`).join(' ');
  const asked = () => names.asked().filter((name) => name.endsWith('.example'));

  await t.test('the program reaches the page by its name, is told where it is, and reaches nothing else', async (t) => {
    const seen = await host.run(
      portal(
        '--',
        ...shell(
          quoted(ask('http://anything.example/')),
          `curl -s -m 2 http://${ROUTER}:8080/ && echo another port`,
          `bash -c 'echo name > /dev/udp/${ROUTER}/54' 2>/dev/null && echo another service`,
          'exit 7',
        ),
      ),
    );
    t.equal(seen.stdout, `${PAGE}\n`, seen.stderr);
    t.equal(seen.code, 7, 'it ends as the program does');
    t.match(seen.stderr, new RegExp(`log in at ${PAGE.replace(/[?.]/g, '\\$&')}`));
    t.same(asked(), ['anything.example']);
    t.equal(await isOpen(), false, 'closed with it');
  });

  await t.test('nobody else does meanwhile', async (t) => {
    const open = host.spawn(portal('--for', '1m', '--', 'sleep', '60'));
    await eventually(isOpen, (seen) => seen);
    const page = await host.run(ask('http://192.0.2.1/'));
    t.equal(page.stdout, '\n', 'a page, by another program');
    await host.run(['timeout', '2', 'getent', 'ahostsv4', 'stranger.example']);
    await host.run(['bash', '-c', `echo name > /dev/udp/${ROUTER}/53`]);
    t.same(asked(), ['anything.example'], 'nor a name');
    await open.stop();
  });

  await t.test('the time is over, and the daemon dead: the kernel closes it', async (t) => {
    const page = quoted(ask('http://192.0.2.1/'));
    const orphan = host.run(portal('--for', '4s', '--', ...shell(page, 'sleep 6', page)));
    await eventually(isOpen, (seen) => seen);
    await client.crash();
    t.equal((await orphan).stdout, `${PAGE}\n\n`);
    client.spawn();
    await client.process.waitForLine(/ started: /, 60_000);
    t.notMatch(await host.exec(['nft', 'list', 'tables']), /portal/, 'what is left of it goes with the next start');
  });

  await t.test('after the log-in it is closed, and on record', async (t) => {
    const open = host.spawn(portal('--', 'sleep', '60'));
    await eventually(isOpen, (seen) => seen);
    await clientHome.router.nft('delete table ip hotel\n');
    await open.waitForLine(/closed again: (a supernode is reached|the log-in page is gone)/, 30_000);
    await open.stop();
    const told = (await client.api.events(50)).filter(({ code }) => code === 'portal').map(({ text }) => text);
    t.ok(told.some((text) => /^open for a log-in/.test(text)));
    t.equal(
      await eventually(
        () => overlay.seenIp().catch(() => ''),
        (ip) => ip !== '',
        30_000,
      ),
      ADDRESSES.exitHome,
    );
    const again = await host.run(portal('--', 'true'));
    t.match(again.stderr, /no log-in page is in the way/);
  });
});

/** The hierarchy of groups is the machine's: every lab sees the same. */
function removeGroup(): void {
  try {
    rmdirSync('/sys/fs/cgroup/unified/vpnd-portal');
  } catch {
    // It went with its last program.
  }
}
