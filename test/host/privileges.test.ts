import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ADDRESSES, LAB_UID, labUser, Overlay, type OverlayNode, Pings, vpnd } from '../../chaos/overlay/index.js';
import { eventually } from '../support/overlay-checks.js';
import {
  commandOf,
  confined,
  factsOf,
  NET_ADMIN,
  NET_ADMIN_AND_BIND,
  NOTHING,
  processesOf,
  setsNames,
  type Witnessed,
  witness,
} from '../support/process-facts.js';

/**
 * Daemons that root starts: what they and everything they start are allowed, with an environment made by somebody who
 * means ill. The same for daemons that a service manager starts is in deploy.test.ts.
 */
t.equal(labUser(), String(LAB_UID), 'this checkout is for everybody to read; these tests need that');

t.test('root starts a daemon, and nothing of it is root', { bail: true }, async (t) => {
  const overlay = await Overlay.build({ clientArgs: ['--standby', 'off'] });
  t.teardown(() => overlay.close());
  const { base, a, b, exit, client } = overlay;
  const forwarding = [a, b, exit, client];
  const witnesses = new Map<OverlayNode, () => readonly Witnessed[]>();
  for (const node of forwarding) witnesses.set(node, await witness(node.host));

  const evil = new Map<OverlayNode, string>();
  for (const node of overlay.nodes) evil.set(node, await hostileDirectory(node));
  const start = (node: OverlayNode, token?: string) => {
    const at = evil.get(node) ?? '';
    const env = {
      PATH: `${at}:.:${process.env.PATH}`,
      LD_LIBRARY_PATH: at,
      NODE_OPTIONS: `--require=${at}/loaded.cjs`,
      HOME: at,
    };
    return node.start({ ...(token === undefined ? {} : { token }), env, cwd: at });
  };

  await t.test('they start all the same, from a directory full of programs that mean ill', async (t) => {
    await start(base);
    await start(a, await overlay.token('supernode', 'eu'));
    await start(b, await overlay.token('supernode', 'us'));
    await start(exit, await overlay.token('exit', 'us'));
    await start(client, await overlay.token('client', 'eu'));
    const up = await client.cli('up');
    t.equal(up.code, 0, up.stderr);
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
  });

  const needed = (node: OverlayNode) =>
    node.role === 'base' ? NOTHING : node.role === 'supernode' ? NET_ADMIN_AND_BIND : NET_ADMIN;

  await t.test('user, groups, capabilities of every process of theirs', async (t) => {
    for (const node of overlay.nodes) {
      const front = node.process.pid;
      t.match(factsOf(front), { ...confined(LAB_UID, NOTHING), capabilities: ['0', '0', '0'], noNewPrivileges: '0' });
      t.equal(factsOf(front).capabilities[4], '0', `${node.name}: what stays in front of it can do nothing`);
      const behind = processesOf(node.host).filter(({ pid }) => pid !== front);
      const theirs = behind.filter(({ command }) => !setsNames(command));
      t.ok(theirs.some(({ pid }) => pid === node.pid));
      const helpers = behind.filter(({ command }) => setsNames(command));
      t.equal(helpers.length, node.role === 'client' ? 1 : 0, `${node.name}: one thing is left to root, the resolver`);
      for (const { facts } of helpers) {
        t.match(facts, { ...confined(0, NOTHING), cwd: '/' }, 'without a capability, and it can get none');
        t.same(facts.env.map((one) => one.split('=')[0]).sort(), ['LC_ALL', 'PATH']);
      }
      for (const { pid, command, facts } of theirs) {
        const { env, cwd, ...allowed } = facts;
        t.same(allowed, confined(LAB_UID, needed(node)), `${node.name}: ${command}`);
        if (pid === node.pid) continue;
        t.equal(cwd, '/', command);
        t.same(
          env.filter((one) => !/^(PATH=\/usr\/local\/sbin:|LC_ALL=C$|PWD=|NODE_CHANNEL_|WG_)/.test(one)),
          [],
        );
      }
      const expected = node.role === 'base' ? [/vpnd\.js/] : [/vpnd\.js/, /launcher-main/];
      if (node.role === 'exit' || node.role === 'client') expected.push(/ip monitor|real-ip monitor/);
      for (const one of expected)
        t.ok(
          theirs.some(({ command }) => one.test(command)),
          `${node.name} has ${one}`,
        );
    }
  });

  await t.test('and of every program that ran and ended', async (t) => {
    await client.cli('down');
    await client.cli('up');
    for (const node of forwarding) {
      const seen = witnesses.get(node)?.() ?? [];
      const tools = new Set(seen.map(({ tool }) => tool));
      for (const tool of ['nft', 'ip']) t.ok(tools.has(tool), `${tool} ran at ${node.name}`);
      const odd = seen.filter(({ facts: { env, cwd, ...allowed } }) => {
        const names = env.map((one) => one.slice(0, one.indexOf('='))).sort();
        const isClean = names.filter((name) => name !== 'PWD').join() === 'LC_ALL,PATH' && cwd === '/';
        return !isClean || JSON.stringify(allowed) !== JSON.stringify(confined(LAB_UID, needed(node)));
      });
      t.same(odd, [], `${node.name}: ${seen.length} programs`);
    }
  });

  await t.test('no program of that directory ever ran, and no secret stayed in an environment', async (t) => {
    for (const node of overlay.nodes) {
      const at = evil.get(node) ?? '';
      t.same(
        readdirSync(at).filter((name) => name.startsWith('caught')),
        [],
        node.name,
      );
      const loaded = readdirSync(at).filter((name) => name.startsWith('loaded-by'));
      t.same(
        loaded.filter((name) => !name.endsWith('vpnd.js')),
        [],
        'NODE_OPTIONS reaches what root started, and no launcher',
      );
      const told = factsOf(node.pid).env;
      t.same(
        told.filter((one) => /vpnd1|^VPND_(?!HANDOVER=3$)|^HOME=|^SSH_/.test(one)),
        [],
        node.name,
      );
    }
  });

  await t.test('files are theirs and nobody else’s', async (t) => {
    for (const node of overlay.nodes) {
      const directory = statSync(node.stateDir);
      t.match(
        { mode: directory.mode & 0o7777, uid: directory.uid, gid: directory.gid },
        { mode: 0o700, uid: LAB_UID, gid: LAB_UID },
      );
      for (const name of readdirSync(node.stateDir)) {
        const { uid, mode } = statSync(join(node.stateDir, name));
        t.match({ name, uid, mode: mode & 0o777 }, { name, uid: LAB_UID, mode: 0o600 });
      }
    }
  });

  await t.test('the local API answers root and the daemon’s own user, and no other', async (t) => {
    const as = (uid: number, groups: string) =>
      client.host.run([
        'setpriv',
        '--reuid',
        String(uid),
        '--regid',
        String(uid),
        ...groups.split(' '),
        '--',
        ...vpnd('status', '--socket', client.socket),
      ]);
    t.equal((await client.cli('status')).code, 0);
    t.equal((await as(LAB_UID, '--clear-groups')).code, 0);
    const stranger = await as(65_534, `--groups ${LAB_UID}`);
    t.equal(stranger.code, 1, 'not even a member of its group');
    t.match(stranger.stderr, /belongs to another user; run this as root/);
  });

  await t.test('it can be ended, killed and started again; WireGuard goes on', async (t) => {
    const engine = () => exit.host.pids().filter((pid) => commandOf(pid).includes('wireguard-go'));
    const before = engine();
    const pings = await Pings.start(overlay.client.host, overlay.web);
    const { pid } = exit;
    exit.process.kill('SIGKILL');
    await exit.process.exited;
    await eventually(
      async () => commandOf(pid),
      (command) => command === '',
      2_000,
    );
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'what root started was killed, and the daemon with it');
    await start(exit);
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
    process.kill(exit.pid, 'SIGKILL');
    t.match(await exit.process.exited, { signal: 'SIGKILL' }, 'and what root started ends as the daemon did');
    await start(exit);
    t.match((await exit.stop()).join('\n'), /wg-exit/, 'SIGTERM gets there, and it says what it left in place');
    t.match(await exit.process.exited, { code: 0 });
    await start(exit);
    const { sent, lost } = await pings.stop();
    t.equal(lost, 0, `of ${sent} packets none was lost`);
    t.same(engine(), before, 'the same WireGuard all the time');
  });

  await t.test('Ctrl-C in root’s terminal is one signal', async (t) => {
    await client.stop();
    const daemon = client.host.spawn(['setsid', ...vpnd(...client.commandLine)]);
    await daemon.waitForLine(/ ready: /);
    process.kill(-daemon.pid, 'SIGINT');
    t.match(await daemon.exited, { code: 0 });
    t.match(daemon.lines().join('\n'), /vpnd client stopping/);
    t.notMatch(daemon.lines().join('\n'), /second signal, the next|ended at once/);
  });
});

/** Programs by all the names that vpnd starts, each of which leaves a trace where it runs; and something for Node to load. */
async function hostileDirectory({ host, name }: OverlayNode): Promise<string> {
  const at = join(host.directory, `evil-${name.replace(/\W/g, '')}`);
  await host.exec(['install', '-d', '-m', '1777', at]);
  const names = ['ip', 'nft', 'wg', 'wireguard-go', 'ss', 'setpriv', 'getent', 'useradd', 'test', 'node', 'sh', 'tr'];
  for (const one of names) {
    await host.exec(['tee', join(at, one)], { stdin: `#!/bin/sh\n/bin/touch '${at}/caught-${one}'\nexit 1\n` });
    await host.exec(['chmod', '755', join(at, one)]);
  }
  const script = `require('node:fs').writeFileSync(${JSON.stringify(at)} + '/loaded-by-' + process.pid + '-' + require('node:path').basename(process.argv[1] ?? 'x'), '')`;
  await host.exec(['tee', join(at, 'loaded.cjs')], { stdin: script });
  return at;
}
