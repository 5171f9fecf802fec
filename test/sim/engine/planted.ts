import type { Mutant } from '../../mutants/mutant.js';

/** A mistake that the simulation has to find; made as those of test/mutants are. */
export interface Planted extends Pick<Mutant, 'name' | 'mistake' | 'edits'> {
  /** The invariants that may be what is noticed, as reports number them. */
  readonly breaks: readonly string[];
}

const EXECUTOR = 'src/core/executor.ts';

/** Mistakes that systems like this one make where machines die, disks fill and clocks are set. */
export const PLANTED: readonly Planted[] = [
  {
    name: 'unrecorded-stays',
    mistake: 'a command that could not be written down stays in the kernel',
    edits: [
      {
        file: EXECUTOR,
        find: 'await this.#move(next, session).catch((failed: unknown) =>',
        put: 'await Promise.resolve().catch((failed: unknown) =>',
      },
    ],
    breaks: ['1', '2', '6'],
  },
  {
    name: 'kernel-not-compared',
    mistake: 'a daemon that starts does not compare its kernel with its ledger',
    edits: [
      {
        file: EXECUTOR,
        find: 'const result = await this.reconcile();',
        put: 'const result: Reconciliation = { repaired: [], removed: [] };',
      },
    ],
    breaks: ['1', '2', '6'],
  },
  {
    name: 'port-does-not-rest',
    mistake: 'a relay port is given away as soon as it is free',
    edits: [
      {
        file: 'src/roles/supernode/relay-ports.ts',
        find: 'new SlotPool(range.to - range.from + 1, seconds(120))',
        put: 'new SlotPool(range.to - range.from + 1, seconds(1))',
      },
    ],
    breaks: ['3'],
  },
  {
    name: 'quarantine-forgotten',
    mistake: 'a supernode that starts anew has forgotten which ports and addresses rest',
    edits: [
      {
        file: 'src/roles/supernode/quarantine.ts',
        find: 'for (const [one, until] of kept) this.pool.rest(',
        put: 'for (const [one, until] of kept.slice(0, 0)) this.pool.rest(',
      },
    ],
    breaks: ['3'],
  },
  {
    name: 'lease-by-wall-clock',
    mistake: 'an exit counts leases by a clock that people set',
    edits: [
      {
        file: 'src/roles/exit/index.ts',
        find: '{ ...ports, clock: steadyClock(ports.clock), ledger: store.ledger },',
        put: '{ ...ports, ledger: store.ledger },',
      },
    ],
    breaks: ['2', '7', '6'],
  },
  {
    name: 'lease-never-ends',
    mistake: 'sessions whose lease ran out are found and left alone',
    edits: [
      {
        file: EXECUTOR,
        find: 'if (this.#stopped || current === undefined || current.leaseUntil > now) return;',
        put: 'if (this.#stopped || current === undefined || current.leaseUntil > 0) return;',
      },
    ],
    breaks: ['2', '6'],
  },
  {
    name: 'failover-without-kill-switch',
    mistake: 'the kill switch goes while a lost tunnel is replaced',
    edits: [
      {
        file: 'src/roles/client/connection.ts',
        find: "wanted: () => this.#wish !== undefined || this.#phase === 'requesting',",
        put: "wanted: () => (this.#wish !== undefined && this.#phase === 'up') || this.#phase === 'requesting',",
      },
    ],
    breaks: ['5'],
  },
  {
    name: 'shut-out-not-kept',
    mistake: 'who is shut out is known until the next start',
    edits: [{ file: 'src/roles/common/revocations.ts', find: 'this.deps.facts.put(FACT, kept);', put: 'void kept;' }],
    breaks: ['4', '6'],
  },
  {
    name: 'shut-out-keeps-stream',
    mistake: 'the sessions of who is shut out end, and the stream stays',
    edits: [
      {
        file: 'src/roles/supernode/revocations.ts',
        find: 'if (refusal !== undefined) streams().disconnect(id, refusal);',
        put: 'void refusal;',
      },
    ],
    breaks: ['4'],
  },
  {
    name: 'nobody-told-of-an-ended-lease',
    mistake:
      'a client whose lease ran out does not tell the supernode that may still renew it, and counts by the wall clock',
    edits: [
      {
        file: 'src/roles/client/survival.ts',
        find: "this.deps.keeper.tell(supervisor, { kind: 'session-closed', session, reason: 'its lease ran out' });",
        put: 'void [supervisor, session];',
      },
      {
        file: 'src/roles/client/survival.ts',
        find: 'const now = this.deps.keeper.leases.now();',
        put: 'const now = this.deps.ports.clock.now();',
      },
    ],
    breaks: ['2', '6', '7'],
  },
];
