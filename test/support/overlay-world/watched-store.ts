import type { BaseStore, DirectoryStore, FactStore, LedgerStore } from '../../../src/core/ports/store.js';

/**
 * The store as a process has it whose every write is told, before and after it is on disk: a machine may lose its power at either
 * moment. A write is all there or not at all, as SQLite's transactions are.
 */
export function watchedStore(store: BaseStore, deed: (when: 'before' | 'after') => void): BaseStore {
  const told = <A extends readonly unknown[], R>(write: (...args: A) => R) => {
    return (...args: A): R => {
      deed('before');
      const done = write(...args);
      deed('after');
      return done;
    };
  };
  const { ledger, facts, directory } = store;
  const watchedLedger: LedgerStore = { ...ledger, record: told(ledger.record), prune: told(ledger.prune) };
  const watchedFacts: FactStore = { ...facts, put: told(facts.put), remove: told(facts.remove) };
  const watchedDirectory: DirectoryStore = {
    ...directory,
    createToken: told(directory.createToken),
    revokeToken: told(directory.revokeToken),
    redeem: told(directory.redeem),
    revoke: told(directory.revoke),
    unrevoke: told(directory.unrevoke),
    adoptRevocations: told(directory.adoptRevocations),
    leaseBlocks: told(directory.leaseBlocks),
  };
  return { ...store, ledger: watchedLedger, facts: watchedFacts, directory: watchedDirectory };
}
