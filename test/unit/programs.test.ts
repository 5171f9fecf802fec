import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { launch } from '../../dataplane/launch.js';
import { startLauncher } from '../../dataplane/launcher.js';
import { createRunner, findProgram, TOOLS, type Tool } from '../../dataplane/run.js';
import { testLog } from '../support/test-log.js';

/** A directory full of programs that mean ill, which is the working directory and all of PATH. */
t.test('programs of that name in PATH or in the working directory are not run, and get no environment', async (t) => {
  const dir = t.testdir();
  const before = { cwd: process.cwd(), env: { ...process.env } };
  t.teardown(() => {
    process.chdir(before.cwd);
    process.env = before.env;
  });
  const mark = join(dir, 'was-run');
  for (const name of [...Object.keys(TOOLS), 'setpriv', 'sh', 'node', 'only-here']) {
    const path = join(dir, name);
    writeFileSync(path, `#!/bin/sh\nenv > ${mark}\n`);
    chmodSync(path, 0o755);
  }
  process.chdir(dir);
  process.env.PATH = `${dir}:.:`;
  process.env.LD_PRELOAD = join(dir, 'evil.so');
  process.env.CANARY = 'canary';
  t.equal(findProgram('only-here'), undefined);
  t.match(findProgram('setpriv'), /^\/(usr\/)?(local\/)?s?bin\/setpriv$/);
  const launcher = startLauncher(testLog());
  t.teardown(() => launcher.close());
  for (const start of [launch, launcher.launch]) {
    const runner = createRunner(undefined, start);
    t.match(await runner.run('ip', ['-V']), /iproute2/, 'the real one');
    t.match(await runner.run('nft', ['--version']), /nftables/);
    for (const tool of Object.keys(TOOLS) as Tool[]) t.match(runner.find(tool) ?? '/', /^\//);
    const seen: string[] = [];
    const spied = createRunner(undefined, (what) => {
      seen.push(...Object.keys(what.env), what.path);
      return start(what);
    });
    await spied.run('ip', ['-V']);
    t.same(seen.slice(0, -1).sort(), ['LC_ALL', 'PATH']);
    t.match(seen.at(-1), /^\//, 'by its whole path');
  }
  t.notOk(existsSync(mark), 'none of them ran');
  await t.rejects(createRunner(['/nowhere']).run('ip', ['-V']), { code: 'no-tool' });
});
