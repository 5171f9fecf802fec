import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** Not copied: what is linked instead, and what no test looks at. */
const LEFT_OUT = new Set(['node_modules', 'dist', '.git', '.tap']);

/** A copy of the repository and of what was built from it, in which files are changed for a while. */
export class Tree {
  readonly root: string;
  readonly #changed = new Map<string, string | undefined>();

  /** `built`: the folder with the compiled files, wherever it is. */
  constructor(repository: string, built: string) {
    this.root = mkdtempSync(join(tmpdir(), 'vpnd-mutants-'));
    // Daemons under test become users of their own, who have to read their program.
    chmodSync(this.root, 0o755);
    for (const name of readdirSync(repository)) {
      if (!LEFT_OUT.has(name)) cpSync(join(repository, name), join(this.root, name), { recursive: true });
    }
    for (const name of ['src', 'bin', 'dataplane', 'test', 'chaos', 'bench'])
      cpSync(join(built, name), join(this.root, 'dist', name), { recursive: true, preserveTimestamps: true });
    symlinkSync(join(repository, 'node_modules'), join(this.root, 'node_modules'));
  }

  write(file: string, text: string): void {
    const path = join(this.root, file);
    if (!this.#changed.has(file)) this.#changed.set(file, readOrNot(path));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }

  /** As it was copied. */
  restore(): void {
    for (const [file, text] of this.#changed) {
      if (text === undefined) rmSync(join(this.root, file), { force: true });
      else writeFileSync(join(this.root, file), text);
    }
    this.#changed.clear();
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}

function readOrNot(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
