import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import type { Launched } from '../../dataplane/launch.js';
import { type Launcher, startLauncher } from '../../dataplane/launcher.js';
import { type TestLog, testLog } from '../support/test-log.js';

const program = (path: string, ...args: string[]): Launched => ({
  path,
  args,
  env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' },
  input: undefined,
  timeoutMs: 20_000,
});

function launcher(t: Test): { readonly launcher: Launcher; readonly log: TestLog } {
  const log = testLog();
  const started = startLauncher(log);
  t.teardown(() => started.close());
  return { launcher: started, log };
}

t.test('a program runs to its end, with its input, its output and nothing of our environment', async (t) => {
  const { launcher: one } = launcher(t);
  t.match(await one.launch({ ...program('/bin/cat'), input: 'a key\n' }), { code: 0, stdout: 'a key\n', stderr: '' });
  t.match(await one.launch(program('/usr/bin/env')), { code: 0, stdout: /^(PATH|LC_ALL)=\S+\n(PATH|LC_ALL)=\S+\n$/ });
  t.match(await one.launch(program('/bin/ls', '/nowhere')), { kind: 'ended', code: 2, stderr: /nowhere/ });
  t.match(await one.launch(program('/bin/nothing-like-it')), { kind: 'not-started', why: /ENOENT/ });
});

t.test('it is not a child of this process, and many run at a time', async (t) => {
  const { launcher: one } = launcher(t);
  const ended = await Promise.all(Array.from({ length: 8 }, () => one.launch(program('/bin/cat', '/proc/self/stat'))));
  for (const each of ended) {
    const parent = each.kind === 'ended' ? Number(each.stdout.split(') ')[1]?.split(' ')[1]) : 0;
    t.ok(parent > 1 && parent !== process.pid);
  }
});

t.test('one that hangs is killed', async (t) => {
  const { launcher: one } = launcher(t);
  t.match(await one.launch({ ...program('/bin/sleep', '60'), timeoutMs: 50 }), {
    signal: 'SIGKILL',
    killed: /no answer within 0.05 s/,
  });
});

t.test('when the other process is killed, what ran counts as failed and what comes runs all the same', async (t) => {
  const { launcher: one, log } = launcher(t);
  const shown = await one.launch(program('/bin/cat', '/proc/self/stat'));
  const parent = shown.kind === 'ended' ? Number(shown.stdout.split(') ')[1]?.split(' ')[1]) : 0;
  t.match(readFileSync(`/proc/${parent}/cmdline`, 'utf8'), /launcher-main/);
  const running = one.launch(program('/bin/sleep', '3'));
  process.kill(parent, 'SIGTERM');
  process.kill(parent, 'SIGINT');
  t.match(await one.launch(program('/bin/true')), { code: 0 }, 'signals that mean the daemon leave it alone');
  process.kill(parent, 'SIGKILL');
  t.match(await running, { kind: 'not-started', why: /SIGKILL/ });
  t.match(await one.launch(program('/bin/true')), { code: 0 });
  t.equal(log.lines.filter((line) => line.level === 'warn').length, 1);
});
