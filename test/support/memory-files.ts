import type { DnsFiles } from '../../dataplane/dns-files.js';
import type { Place } from '../../dataplane/dns-text.js';

/** Thrown where the power fails: nothing after it happens. */
export class PowerCut extends Error {}

const errno = (code: string): Error => Object.assign(new Error(code), { code });

/** A directory in memory, whose power can fail before any of its writes, and whose disk can be full or locked. */
export class MemoryFiles implements DnsFiles {
  readonly places = new Map<string, Exclude<Place, { kind: 'nothing' }>>();
  readonly mounted = new Set<string>();
  /** Every write so far, in words. */
  readonly done: string[] = [];
  /** How many writes happen before the power fails. */
  powerFor = Number.POSITIVE_INFINITY;
  /** Every write fails with this errno. */
  fault: string | undefined;

  file(path: string, text: string, mode = 0o644): this {
    this.places.set(path, { kind: 'file', text, mode });
    return this;
  }

  look(path: string): Place {
    return this.places.get(path) ?? { kind: 'nothing' };
  }

  read(path: string): string | undefined {
    const place = this.places.get(path);
    if (place?.kind !== 'link') return place?.text;
    const target = place.target.startsWith('/') ? place.target : `/${place.target.replace(/^(\.\.\/)+/, '')}`;
    return this.read(target);
  }

  isMounted(path: string): boolean {
    return this.mounted.has(path);
  }

  make(path: string, content: Exclude<Place, { kind: 'nothing' }>): void {
    this.#write(`make ${path}`);
    this.places.set(path, content);
  }

  rename(from: string, to: string): void {
    this.#write(`rename ${from} ${to}`);
    const moved = this.places.get(from);
    if (moved === undefined) throw errno('ENOENT');
    if (this.mounted.has(to)) throw errno('EBUSY');
    this.places.delete(from);
    this.places.set(to, moved);
  }

  overwrite(path: string, text: string): void {
    this.#write(`overwrite ${path}`);
    const place = this.places.get(path);
    if (place?.kind !== 'file') throw errno('ENOENT');
    this.places.set(path, { ...place, text });
  }

  remove(path: string): void {
    if (!this.places.has(path)) return;
    this.#write(`remove ${path}`);
    this.places.delete(path);
  }

  #write(what: string): void {
    if (this.done.length >= this.powerFor) throw new PowerCut();
    if (this.fault !== undefined) throw errno(this.fault);
    this.done.push(what);
  }
}
