import { createServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import t, { type Test } from 'tap';
import { checkPortal } from '../../src/cli/doctor-portal.js';
import type { LoginPage } from '../../src/core/ports/login-page.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import type { SupernodeInfo } from '../../src/model/directory.js';
import { NO_LOAD } from '../../src/model/directory.js';
import type { PeerId } from '../../src/model/ids.js';
import type { Region } from '../../src/model/role.js';
import { LoginWatch } from '../../src/roles/client/login-watch.js';
import { findLoginPage } from '../../src/transport/login-page.js';
import { VirtualClock } from '../support/virtual-clock.js';

const LOOPBACK = '127.0.0.1' as IpAddress;

async function webServer(t: Test) {
  const answer: { status: number; location?: string } = { status: 200 };
  const server = createServer((_, response) => {
    response.writeHead(answer.status, answer.location === undefined ? {} : { location: answer.location });
    response.end('<html>');
  });
  await new Promise<void>((resolve) => server.listen(0, LOOPBACK, resolve));
  const at = server.address();
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()));
  t.teardown(close);
  return { answer, close, port: (typeof at === 'object' && at !== null ? at.port : 0) as Port };
}

t.test('the doctor knows a network that wants a log-in first', async (t) => {
  const { answer, port, close } = await webServer(t);
  const stranger = await webServer(t);
  await stranger.close();
  const nobody = { ip: LOOPBACK, port: stranger.port };
  const found = () => checkPortal(LOOPBACK, ['sn1.example.org'], { port, nobody });
  t.match(await found(), { result: 'ok' }, 'a web server of its own');
  Object.assign(answer, { status: 301, location: 'https://sn1.example.org/' });
  t.match(await found(), { result: 'ok' }, 'which leads to itself');
  Object.assign(answer, { status: 302, location: '/index.html' });
  t.match(await found(), { result: 'ok' });
  Object.assign(answer, { status: 302, location: 'http://hotel.example/login?from=x' });
  t.match(await found(), {
    result: 'fail',
    text: /log-in page first \(http:\/\/hotel\.example\/login/,
    todo: /vpnd portal/,
  });
  Object.assign(answer, { status: 511, location: undefined });
  t.match(await found(), { result: 'fail', text: /log-in page first$/ });
  await close();
  t.match(await found(), { result: 'ok' }, 'nobody speaks HTTP there');
});

t.test('who answers in nobody’s place wants a log-in, and shows nothing in a terminal but a web address', async (t) => {
  const own = await webServer(t);
  await own.close();
  const { answer, port } = await webServer(t);
  const nobody = { ip: LOOPBACK, port };
  const page = () => findLoginPage(LOOPBACK, [], { port: own.port, nobody });
  const base = `http://127.0.0.1:${port}`;
  t.same(await page(), { url: `${base}/` }, 'some answer with their page itself');
  for (const [location, url] of [
    ['/login', `${base}/login`],
    ['https://hotel.example/', 'https://hotel.example/'],
    ['http://hôtel.example/ ü', 'http://xn--htel-vqa.example/%20%C3%BC'],
    ['javascript:alert(1)', undefined],
    ['file:///etc/passwd', undefined],
    ['http://user:secret@hotel.example/', undefined],
    [`http://hotel.example/${'x'.repeat(400)}`, undefined],
    ['http://[', undefined],
  ] as const) {
    Object.assign(answer, { status: 302, location: Buffer.from(location).toString('latin1') });
    const got = await page();
    t.ok(got !== undefined, location);
    if (!/[^\x20-\x7e]/.test(location)) t.equal(got?.url, url, location);
    t.match(got?.url ?? '', /^[\x21-\x7e]*$/);
  }
  Object.assign(answer, { status: 404, location: undefined });
  t.equal(await page(), undefined, 'an error is no log-in page');
  Object.assign(answer, { status: 200, location: 'x'.repeat(20_000) });
  t.equal(await page(), undefined, 'nor is what no browser would take');
});

t.test('whatever speaks there in the place of HTTP, asking comes to an end', async (t) => {
  for (const said of [
    '',
    'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    'HTTP/1.1 103 Early Hints\r\n\r\n',
    'SSH-2.0-OpenSSH_9.2\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n',
  ]) {
    const server = createTcpServer((socket) =>
      socket
        .on('error', () => {})
        .resume()
        .end(said),
    );
    await new Promise<void>((resolve) => server.listen(0, LOOPBACK, resolve));
    const at = server.address();
    const port = (typeof at === 'object' && at !== null ? at.port : 0) as Port;
    t.equal(await findLoginPage(LOOPBACK, [], { port, nobody: { ip: LOOPBACK, port } }), undefined, said);
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
});

const supernode: SupernodeInfo = {
  id: 'a'.repeat(52) as PeerId,
  region: 'eu' as Region,
  addresses: [{ host: 'sn1.example.org', port: 443 as Port }],
  relayIps: ['203.0.113.7' as IpAddress],
  probePort: undefined,
  draining: false,
  load: NO_LOAD,
};

function client() {
  const clock = new VirtualClock();
  const at = { up: true, page: undefined as LoginPage | undefined };
  const asked: unknown[] = [];
  const events: string[] = [];
  const watch = new LoginWatch({
    clock,
    find: async (...what) => {
      asked.push(what);
      return at.page;
    },
    isUp: () => at.up,
    supernodes: () => [supernode],
    happened: (code, text) => void events.push(`${code}: ${text}`),
    changed: () => {},
  });
  return { clock, at, asked, events, watch };
}

t.test('a client whose stream does not come up says that the network wants a log-in', async (t) => {
  const { clock, at, asked, events, watch } = client();
  watch.look();
  t.equal(clock.pending, 0, 'nothing is asked while all is well');
  at.up = false;
  at.page = { url: 'http://hotel.example/login' };
  watch.look();
  watch.look();
  await clock.advance(2_900);
  t.same(asked, [], 'a stream that is only being dialled again is no reason');
  await clock.advance(60_000);
  t.same(asked[0], ['203.0.113.7', ['sn1.example.org', '203.0.113.7']]);
  t.equal(events.length, 1, 'once');
  t.match(events[0], /^portal: this network asks for a log-in page first \(http:\/\/hotel\.example\/login\)/);
  t.match(watch.problem, /log-in page/);

  at.up = true;
  watch.look();
  t.equal(watch.problem, undefined, 'and no more once it is through');
  t.equal(clock.pending, 0);
});

t.test('a supernode that is away is no log-in page', async (t) => {
  const { clock, at, events, watch } = client();
  at.up = false;
  watch.look();
  await clock.advance(60_000);
  t.same(events, []);
  t.equal(watch.problem, undefined);
  watch.stop();
  t.equal(clock.pending, 0);
  watch.look();
  t.equal(clock.pending, 0, 'stopped is stopped');
});
