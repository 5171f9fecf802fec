import { VpndError } from '../src/model/errors.js';
import type { DnsFiles } from './dns-files.js';
import { type OwnFile, type Place, parseOwnFile, plainFile, renderOwnFile } from './dns-text.js';

/** What the file's place says of itself. */
export interface Found {
  readonly place: Place;
  /** Undefined where it is somebody else's. */
  readonly own: OwnFile | undefined;
}

/** resolv.conf(5) itself: replaced whole where it can be, written over where something is mounted on it. */
export class ResolvConf {
  readonly #new: string;

  constructor(
    private readonly files: DnsFiles,
    readonly path: string,
  ) {
    this.#new = `${path}.vpnd-new`;
  }

  /** Throws VpndError `dataplane` for what is no file. */
  look(): Found {
    const place = this.#doing(() => this.files.look(this.path));
    return { place, own: place.kind === 'file' ? parseOwnFile(place.text) : undefined };
  }

  /** True when something had to be written. Throws VpndError `dataplane`, `disk-full`, `no-root`; nothing has changed then. */
  put(servers: readonly string[]): boolean {
    const { place, own } = this.look();
    const before =
      own === undefined ? place : (own.before ?? { kind: 'file', text: plainFile(own.servers), mode: 0o644 });
    const text = renderOwnFile(servers, before);
    if (place.kind === 'file' && place.text === text) return false;
    this.#doing(() => this.#replace(place, { kind: 'file', text, mode: 0o644 }));
    return true;
  }

  /** True when the file was vpnd's; one of somebody else's is newer than what was there before, and stays. */
  restore(): boolean {
    const { place, own } = this.look();
    return this.#doing(() => {
      // What a power cut left of a file that was being made.
      this.files.remove(this.#new);
      if (own === undefined) return false;
      const before = own.before ?? ({ kind: 'file', text: plainFile(own.servers), mode: 0o644 } as const);
      if (before.kind === 'nothing') this.files.remove(this.path);
      else this.#replace(place, before);
      return true;
    });
  }

  #replace(old: Place, content: Exclude<Place, { kind: 'nothing' }>): void {
    if (this.files.isMounted(this.path)) this.#overwrite(old, content);
    else {
      try {
        this.files.make(this.#new, content);
        this.files.rename(this.#new, this.path);
      } catch (thrown) {
        try {
          this.files.remove(this.#new);
        } catch {
          // The next restore removes it.
        }
        if (codeOf(thrown) !== 'EBUSY') throw thrown;
        this.#overwrite(old, content);
      }
    }
  }

  #overwrite(old: Place, content: Exclude<Place, { kind: 'nothing' }>): void {
    if (content.kind === 'link')
      throw new VpndError('dataplane', `${this.path}: something was mounted on it meanwhile`);
    try {
      this.files.overwrite(this.path, content.text);
    } catch (thrown) {
      // A full disk may have taken a part of it. What was there has its place still.
      if (old.kind === 'file') this.#tryOverwrite(old.text);
      throw thrown;
    }
  }

  #tryOverwrite(text: string): void {
    try {
      this.files.overwrite(this.path, text);
    } catch {
      // What kept the first from being written is what people are told.
    }
  }

  #doing<T>(task: () => T): T {
    try {
      return task();
    } catch (thrown) {
      throw this.#refusal(thrown);
    }
  }

  #refusal(thrown: unknown): unknown {
    const code = codeOf(thrown);
    if (thrown instanceof VpndError || code === undefined) return thrown;
    const known = WHY[code];
    const why = known === undefined ? code : known.replace('FILE', this.path);
    const kind = code === 'ENOSPC' || code === 'EDQUOT' ? 'disk-full' : code === 'EACCES' ? 'no-root' : 'dataplane';
    return new VpndError(kind, `${this.path} cannot be changed: ${why}`, {
      cause: thrown,
      details: { path: this.path },
    });
  }
}

const WHY: Readonly<Record<string, string>> = {
  EROFS: 'its file system is read-only',
  EPERM: 'it is kept from changes (chattr -i FILE)',
  EACCES: 'this process may not',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk is full',
  EISDIR: 'it is no file',
  EFBIG: 'it is larger than any such file',
};

const codeOf = (thrown: unknown): string | undefined => (thrown as NodeJS.ErrnoException).code;
