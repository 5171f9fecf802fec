import type { PeerId } from '../../model/ids.js';
import type { MemberRole } from '../../model/role.js';

/** Who is connected, by id and by role. A change costs O(1), however many there are. */
export class PeerIndex<T> {
  readonly #byId = new Map<PeerId, { readonly role: MemberRole; readonly value: T }>();
  readonly #byRole: Readonly<Record<MemberRole, Map<PeerId, T>>> = {
    supernode: new Map(),
    exit: new Map(),
    client: new Map(),
  };

  get(id: PeerId): T | undefined {
    return this.#byId.get(id)?.value;
  }

  put(id: PeerId, role: MemberRole, value: T): void {
    this.remove(id);
    this.#byId.set(id, { role, value });
    this.#byRole[role].set(id, value);
  }

  remove(id: PeerId): void {
    const entry = this.#byId.get(id);
    if (entry === undefined) return;
    this.#byId.delete(id);
    this.#byRole[entry.role].delete(id);
  }

  count(role?: MemberRole): number {
    return role === undefined ? this.#byId.size : this.#byRole[role].size;
  }

  /** A copy, in the order in which they came. */
  ofRole(role: MemberRole): T[] {
    return [...this.#byRole[role].values()];
  }
}
