import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Log } from '../src/core/ports/log.js';
import { VpndError } from '../src/model/errors.js';

/** Of a client's state directory. */
export const lockdownFileIn = (stateDir: string): string => join(stateDir, 'lockdown.nft');

/**
 * A kill switch as text for `nft -f`, kept on disk: that it is there means lockdown, and putting it in force needs no
 * daemon, no database and no network.
 */
export class LockdownFile {
  constructor(
    private readonly path: string,
    private readonly log: Pick<Log, 'warn'>,
  ) {}

  exists(): boolean {
    return existsSync(this.path);
  }

  /**
   * Whole or not at all, and through a power cut. Throws VpndError `disk-full` or `state-unreadable` where there was none
   * before; an older one is good enough to be left in place with a warning.
   */
  write(text: string): void {
    const before = this.#read();
    if (before === text) return;
    const temporary = `${this.path}.new`;
    try {
      forget(temporary);
      const file = openSync(temporary, 'wx', 0o600);
      try {
        writeSync(file, text);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(temporary, this.path);
      syncDirectory(dirname(this.path));
    } catch (cause) {
      forget(temporary);
      if (before !== undefined) {
        this.log.warn('the rules for the next boot cannot be brought up to date; the older ones stay', { err: cause });
        return;
      }
      const code = (cause as NodeJS.ErrnoException).code === 'ENOSPC' ? 'disk-full' : 'state-unreadable';
      throw new VpndError(code, `${this.path} cannot be written, so lockdown would not survive a reboot`, { cause });
    }
  }

  /** Throws VpndError `state-unreadable`. */
  remove(): void {
    if (!this.exists()) return;
    try {
      rmSync(this.path);
      syncDirectory(dirname(this.path));
    } catch (cause) {
      throw new VpndError('state-unreadable', `${this.path} cannot be removed: the next boot would lock down`, {
        cause,
      });
    }
  }

  #read(): string | undefined {
    try {
      return readFileSync(this.path, 'utf8');
    } catch {
      return undefined;
    }
  }
}

/** Whatever it says: what matters fails by itself. */
function forget(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // There is no such place.
  }
}

function syncDirectory(path: string): void {
  const directory = openSync(path, 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
