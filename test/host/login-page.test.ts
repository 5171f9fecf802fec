import t, { type Test } from 'tap';
import { type Home, Overlay } from '../../chaos/overlay/index.js';
import { eventually } from '../support/overlay-checks.js';

const PAGE = 'http://login.hotel.example/?from=lobby';
const HOTEL = `
  require('node:http').createServer((request, response) => {
    response.writeHead(302, { location: ${JSON.stringify(PAGE)} });
    response.end('x'.repeat(1e6));
  }).listen(8080, () => console.log('listening'));
`;

/** A hotel's router: nothing passes, and every web request is answered by itself, until a guest has logged in. */
async function hotel(t: Test, home: Home): Promise<{ logIn(): Promise<void>; logOut(): Promise<void> }> {
  const server = home.router.spawn([process.execPath, '-e', HOTEL]);
  await server.waitForLine(/listening/);
  t.teardown(() => server.stop());
  return {
    logIn: async () => {
      await home.router.nft('delete table ip hotel\n');
    },
    logOut: async () => {
      await home.router.nft(
        `table ip hotel\ndelete table ip hotel\ntable ip hotel {
          chain answer {
            type nat hook prerouting priority dstnat - 1; policy accept;
            iifname "lan0" tcp dport 80 redirect to :8080
          }
          chain forward {
            type filter hook forward priority filter - 2; policy accept;
            iifname "lan0" drop
            oifname "lan0" drop
          }
        }\n`,
      );
    },
  };
}

t.test('vpnd status says where to log in, before and while a tunnel holds all traffic', async (t) => {
  const overlay = await Overlay.start();
  t.teardown(() => overlay.close());
  const { client, clientHome } = overlay;
  const problems = async () => (await client.json<{ problems?: string[] }>('status')).problems ?? [];
  const says = (seen: string[]) => seen.some((text) => text.includes(PAGE));
  const door = await hotel(t, clientHome);

  await client.stop();
  await door.logOut();
  client.spawn();
  await eventually(() => problems().catch(() => []), says, 60_000);

  await t.test('after the log-in it is connected, and says so no more', async (t) => {
    await door.logIn();
    await client.process.waitForLine(/ ready: /, 60_000);
    await eventually(problems, (seen) => !says(seen));
    const up = await client.cli('up', '--region', 'us');
    t.equal(up.code, 0, up.stderr);
  });

  await t.test('a tunnel that is carried into such a network leaks nothing, and the page is found', async (t) => {
    await door.logOut();
    await eventually(problems, says, 90_000);
    const page = await overlay.fetch('http://198.51.100.80/', 3);
    t.equal(page.ok, false, 'no web request of a user leaves');
    const { events } = { events: await client.json<{ code: string }[]>('events') };
    t.equal(events.filter(({ code }) => code === 'portal').length, 2);
  });
});
