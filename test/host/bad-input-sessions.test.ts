import { createHash, randomBytes } from 'node:crypto';
import t from 'tap';
import { ADDRESSES, Overlay, OverlayNode, Pings, vpnd } from '../../chaos/overlay/index.js';
import { formatJoinToken } from '../../src/identity/join-token.js';
import type { Port } from '../../src/model/address.js';
import type { Region } from '../../src/model/role.js';
import { hours } from '../../src/model/time.js';
import { BadInputs, clockOff, emptyDisk, fillDisk, smallDisk } from '../support/bad-input.js';
import { eventually, kernelResidue, sessionsOf, wireGuardPeers } from '../support/overlay-checks.js';

/**
 * Everything runs, with state directories on small disks. The exit takes one session; supernode B is an exit too, which
 * ranks behind it.
 */
const bad = new BadInputs();
const overlay = await Overlay.build({ exitArgs: ['--capacity', '1'] });
t.teardown(() => overlay.close());
const { base, a, b, exit, client } = overlay;
const newcomer = await overlay.lab.publicHost('newcomer', { ipv4: '198.51.100.30' });
const second = new OverlayNode('a second client', newcomer, 'client', []);
for (const node of [a, exit, client]) await smallDisk(node);
await base.start();
await Promise.all([
  overlay.token('supernode', 'eu').then((token) => a.start({ token })),
  overlay.token('supernode', 'us', { egress: true }).then((token) => b.start({ token, more: ['--egress'] })),
]);
await Promise.all([
  overlay.token('exit', 'us').then((token) => exit.start({ token })),
  // Looking for a standby changes the kernel from time to time, whatever else is asked.
  overlay.token('client', 'eu').then((token) => client.start({ token, more: ['--standby', 'off'] })),
  overlay.token('client', 'eu').then((token) => second.start({ token })),
]);
const exitId = (await exit.json<{ peerId: string }>('status')).peerId;

const ask = (node: OverlayNode, input: string, argv: readonly string[], says: readonly RegExp[], status: 1 | 2 = 1) =>
  bad.refused(t, { input, host: node.host, argv: ['up', '--socket', node.socket, ...argv], says, status });

await t.test('exits there are not', async () => {
  await bad.refused(t, {
    input: 'daemon not running',
    host: newcomer,
    argv: ['up', '--state-dir', `${newcomer.directory}/nothing`],
    status: 1,
    says: [/no vpnd answers at/, /start it with/],
  });
  await ask(client, 'region that does not exist', ['--region', 'mars'], [/no region 'mars'/, /eu, us/]);
  await ask(client, 'no exit in region', ['--region', 'eu'], [/no exit is connected in region 'eu'/, /vpnd exits/]);
  await ask(client, 'region that is no region', ['--region', 'Mars!'], [/--region/, /like eu or us-east-1/], 2);
});

/** Another command than `vpnd up`, asked of a daemon. */
const tell = (node: OverlayNode, input: string, argv: readonly string[], says: readonly RegExp[], status: 1 | 2 = 1) =>
  bad.refused(t, { input, host: node.host, argv: [...argv, '--socket', node.socket], says, status });

await t.test('nothing to move', async (t) => {
  await tell(client, 'rotate without a tunnel', ['rotate'], [/there is no tunnel/, /vpnd up/]);
  await tell(client, 'a path without a tunnel', ['path', 'relay'], [/there is no tunnel/, /vpnd up/]);
  await tell(client, 'a path there is not', ['path', 'fast'], [/'fast' is not one of direct, relay, auto/], 2);
  await tell(exit, 'rotate asked of an exit', ['rotate'], [/this is an exit/, /is for a client/]);
  await tell(exit, 'a drain asked of an exit', ['supernode', 'drain'], [/this is an exit/, /is for a supernode/]);
  t.equal((await client.cli('up', '--exit', exitId, '--privacy', 'private')).code, 0);
  await tell(client, 'rotate away from the one exit that was asked for', ['rotate'], [/exit/]);
  await tell(client, 'direct, where it was to be private', ['path', 'direct'], [/--privacy private/], 2);
  t.match((await sessionsOf(client)).slice(0, 1), [{ state: 'up', exitId }], 'the tunnel is as it was');
  t.equal((await client.cli('down')).code, 0);
});

await t.test('an exit that is taken', async (t) => {
  t.equal((await client.cli('up', '--exit', exitId)).code, 0, 'it takes one session');
  const reason = /its owner allows one session at a time, and it is taken/;
  await ask(second, 'exit refuses', ['--exit', exitId], [reason]);
  const up = await second.cli('up', '--region', 'us');
  t.equal(up.code, 0, `where there is another, the client never hears "no": ${up.stderr}`);
  t.match(await sessionsOf(second), [{ state: 'up', exitId: (await b.json<{ peerId: string }>('status')).peerId }]);
  t.equal((await second.cli('down')).code, 0);
});

await t.test('the disk of a supernode fills up while it runs', async (t) => {
  const pings = await Pings.start(overlay.client.host, overlay.web);
  await fillDisk(a);
  await ask(second, "supernode's disk full", [], [/supernode [a-z2-7]+: its disk is full/, /whoever runs it/]);
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'it forwards as before');
  await emptyDisk(a);
  const up = await second.cli('up', '--region', 'us');
  t.equal(up.code, 0, `with room it takes sessions again: ${up.stderr}`);
  t.equal((await second.cli('down')).code, 0);
  const { sent, lost } = await pings.stop();
  t.equal(lost, 0, `of ${sent} packets of the running session none was lost`);
  t.ok(a.process.running);
});

await t.test('the disk of an exit fills up while it runs', async (t) => {
  t.equal((await client.cli('down')).code, 0);
  await fillDisk(exit);
  await ask(
    second,
    "exit's disk full",
    ['--exit', exitId],
    [/could not take the session: its disk is full/, /whoever/],
  );
  t.same(await wireGuardPeers(exit), [], 'and took nothing into its kernel');
  const up = await second.cli('up', '--region', 'us');
  t.equal(up.code, 0, `the next exit is tried, and the client never hears "no": ${up.stderr}`);
  const tried = a.process.lines('stderr').filter((line) => line.includes('an exit could not be used'));
  t.match(tried.at(-1), /exit-refused/, 'the exit was tried first, and refused');
  t.equal((await second.cli('down')).code, 0);
  await emptyDisk(exit);
  t.equal((await second.cli('up', '--exit', exitId)).code, 0, 'with room it takes sessions again');
  t.equal((await second.cli('down')).code, 0);
  t.ok(exit.process.running);
});

await t.test('the disk of a client fills up while it runs', async (t) => {
  await fillDisk(client);
  await ask(client, "client's own disk full", [], [/vpnd\.db cannot be written: the disk is full/, /free some space/]);
  t.same(await kernelResidue(client), [], 'nothing is left of it');
  t.equal(await overlay.seenIp(), ADDRESSES.clientHome);
  await emptyDisk(client);
  t.equal((await client.cli('up', '--exit', exitId)).code, 0);
  await fillDisk(client);
  t.equal((await client.cli('down')).code, 0, 'down works on a full disk');
  t.same(await kernelResidue(client), [], 'and leaves nothing');
  await emptyDisk(client);
  await client.stop();
  await client.start();
  t.same(await kernelResidue(client), [], 'nor does it come back at the next start');
  for (const node of [a, b, exit])
    t.same(
      await eventually(
        () => sessionsOf(node),
        (left) => left.length === 0,
      ),
      [],
      `sessions at ${node.name}`,
    );
});

await t.test('daemons', async (t) => {
  const other = ['--metrics', 'off', '--log-level', 'error'];
  await bad.refused(t, {
    input: 'second daemon on one state directory',
    host: client.host,
    argv: [...client.commandLine, ...other],
    status: 1,
    says: [new RegExp(`in use by another vpnd \\(pid ${client.pid}\\)`), /state directory of its own/],
  });
  t.match(await client.json('status'), { upstream: { state: 'up' } }, 'the first one goes on');

  await client.stop();
  await bad.refused(t, {
    input: 'clock an hour behind, enrolled',
    host: client.host,
    argv: [...client.commandLine, ...other],
    env: clockOff(-hours(1)),
    status: 1,
    says: [/this machine's clock says/, /set it/],
    untouched: [client.stateDir],
  });
  const off = client.host.spawn(vpnd(...client.commandLine), { env: clockOff(hours(1)) });
  await off.waitForLine(/ started: /);
  await ask(client, 'clock an hour ahead, enrolled', [], [/clock is 60 min ahead of the supernode's/, /set it/]);
  t.match((await client.cli('status')).stdout, /clock is 60 min ahead/, 'and vpnd status shows it');
  t.equal((await off.stop()).code, 0);
  await client.start();
});

await t.test('SIGTERM while a daemon waits for a base that says nothing', async (t) => {
  const silent = newcomer.spawn([
    process.execPath,
    '-e',
    `require('node:net').createServer(() => console.log('connected')).listen(7400, () => console.log('listening'))`,
  ]);
  await silent.waitForLine(/listening/);
  const base = [{ host: '198.51.100.30', port: 7400 as Port }];
  const sha256 = (input: Uint8Array) => new Uint8Array(createHash('sha256').update(input).digest());
  const secrets = { caKeyHash: new Uint8Array(randomBytes(32)), secret: new Uint8Array(randomBytes(32)) };
  const token = formatJoinToken({ base, ...secrets, role: 'exit', region: 'eu' as Region }, sha256);
  const starting = new OverlayNode('an exit', newcomer, 'exit', ['--log-level', 'error']);
  const before = newcomer.pids().sort();
  for (const round of ['the first', 'the second']) {
    const seen = silent.lines().length;
    const daemon = starting.spawn({ token });
    await eventually(
      async () => silent.lines().length,
      (lines) => lines > seen,
    );
    const { code } = await daemon.stop(10_000);
    t.equal(code, 0, `${round} ends in order, and was not killed`);
    t.same(daemon.lines(), [], 'without a word');
    t.same(
      (await kernelResidue(starting)).filter((line) => /exit/.test(line)),
      [],
    );
    t.same(newcomer.pids().sort(), before, 'no process is left');
  }
  await silent.stop();
});

await t.test('a drain with nowhere to go', async (t) => {
  await b.stop();
  await tell(a, 'a drain of the only supernode', ['supernode', 'drain'], [/no other supernode to move to/]);
  t.match(await a.json('status'), { upstream: { state: 'up' } }, 'it serves as before');
});

t.test('the document', async (t) => bad.compareWithDocument(t, 'Using one'));
