import { chmodSync, copyFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { labUser, type OverlayNode } from '../overlay/index.js';

export type Mood = 'works' | 'fails' | 'hangs';

/**
 * A program of the system that does not do what it should for the daemons of one machine; root, who looks at what came
 * of it, has it as it is.
 */
export class SpoiltProgram {
  private constructor(private readonly moodFile: string) {}

  static async on({ host }: OverlayNode, path: string): Promise<SpoiltProgram> {
    if (labUser() === 'root') throw new Error('daemons run as root here, and cannot be told from who looks');
    const real = realpathSync(path);
    const name = path.replaceAll('/', '-').slice(1);
    const [copy, wrapper, mood] = ['real', 'spoilt', 'mood'].map((kind) => join(host.directory, `${kind}-${name}`));
    if (copy === undefined || wrapper === undefined || mood === undefined) throw new Error('three names were made');
    copyFileSync(real, copy);
    chmodSync(copy, 0o755);
    writeFileSync(mood, 'works\n', { mode: 0o644 });
    writeFileSync(
      wrapper,
      `#!/bin/sh
[ -O "$0" ] && exec "${copy}" "$@"
read -r mood <"${mood}"
case $mood in
  fails) echo "$0: something is broken" >&2; exit 1 ;;
  hangs) exec sleep 600 ;;
esac
exec "${copy}" "$@"
`,
      { mode: 0o755 },
    );
    chmodSync(wrapper, 0o755);
    await host.exec(['mount', '--bind', wrapper, real]);
    return new SpoiltProgram(mood);
  }

  now(mood: Mood): void {
    writeFileSync(this.moodFile, `${mood}\n`);
  }
}
