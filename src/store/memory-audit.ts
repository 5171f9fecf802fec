import type { AuditEntry, AuditSeal, AuditStore } from '../core/ports/audit.js';
import type { Guard } from './memory.js';

/** What a memory store holds of an audit log; tests tamper with it as somebody would with a file. */
export interface AuditContents {
  entries: AuditEntry[];
  checkpoints: AuditSeal[];
  head: AuditSeal | undefined;
  anchor: AuditSeal | undefined;
}

/** The twin of src/store/sqlite/audit.ts. */
export function auditOver(contents: AuditContents, reading: Guard, writing: Guard): AuditStore {
  return {
    append: (entries, head, checkpoints) =>
      writing(() => {
        const taken = new Set(contents.entries.map(({ sequence }) => sequence));
        for (const { sequence } of entries) {
          if (taken.has(sequence)) throw new TypeError(`there is an audit entry ${sequence} already`);
          taken.add(sequence);
        }
        contents.entries.push(...entries);
        contents.checkpoints.push(...checkpoints);
        contents.head = head;
      }),
    read: (from, limit) => reading(() => contents.entries.filter(({ sequence }) => sequence >= from).slice(0, limit)),
    head: () => reading(() => contents.head),
    anchor: () => reading(() => contents.anchor),
    checkpoints: () => reading(() => [...contents.checkpoints]),
    forget: (anchor) =>
      writing(() => {
        contents.anchor = anchor;
        contents.entries = contents.entries.filter(({ sequence }) => sequence > anchor.sequence);
        contents.checkpoints = contents.checkpoints.filter(({ sequence }) => sequence > anchor.sequence);
      }),
  };
}
