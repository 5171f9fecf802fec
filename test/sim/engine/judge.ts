import type { Statements } from '../../../src/core/ports/authority.js';
import type { SessionRecord } from '../../../src/core/ports/store.js';
import { keyOf, type PeerId, type SessionId } from '../../../src/model/ids.js';
import { violations } from '../../support/overlay-world/invariants.js';
import type { Machine } from '../../support/overlay-world/machine.js';
import type { Traffic } from '../../support/overlay-world/traffic.js';
import type { OverlayWorld } from '../../support/overlay-world.js';
import type { Stage } from './stage.js';

/** A relay port rests for two minutes, an inner address for five. */
const REST = { port: 120_000, address: 300_000 } as const;
/** News of who is shut out may take so long once they are on a supernode. */
const AT_ONCE = 1_500;
/** A session is in the books until the other supernode has answered too, or has had the time to. */
const CLOSED_AFTER = 35_000;

interface Owner {
  readonly session: string;
  readonly seenAt: number;
}
interface Front {
  readonly session: string;
  readonly client: PeerId;
  readonly exit: PeerId;
  readonly supernode: PeerId;
  readonly port?: number;
  readonly inner: { readonly ipv4: string };
}
interface Back {
  readonly session: string;
  readonly exit: PeerId;
  readonly origin: PeerId;
  readonly port?: number;
}

/** Looks at a world from outside and says what is wrong with it, each with the number of the invariant that is broken. */
export class Judge {
  readonly #owners = new Map<string, Owner>();
  readonly #leases = new Map<string, { readonly updatedAt: number; readonly seenAt: number }>();
  /** The highest epoch that each node was seen to know, and since when. */
  readonly #epochs = new Map<string, { readonly epoch: number; readonly since: number }>();
  #lines = 0;
  /** Its users take their tunnels down: what is under way is theirs to lose. */
  isOver = false;

  constructor(
    private readonly world: OverlayWorld,
    private readonly stage: Stage,
    private readonly rules: {
      readonly lease: number;
      /** Set where no packet may be lost. */
      readonly traffic: ReadonlyMap<string, Traffic> | undefined;
    },
  ) {}

  async wrong(): Promise<readonly string[]> {
    return [
      ...this.#state(),
      ...this.#leftovers(),
      ...this.#reuse(),
      ...(await this.#shutOut()),
      ...this.world.leaks.map((leak) => `5: ${leak}`),
      ...this.#losses(),
      ...this.#mistakes(),
    ];
  }

  /** 1, 3 and the part of 5 that is seen in kernels. */
  #state(): readonly string[] {
    const excused = (what: string) =>
      this.world.all().some(({ name }) => what.startsWith(`${name}: `) && this.#mayDiffer(name));
    return violations(this.world.all().filter((one) => this.#runs(one) || one.role === 'client'))
      .filter((what) => !/differ|routes are gone|no kill switch/.test(what) || !excused(what))
      .map((what) => `${/differ/.test(what) ? 1 : /kill switch|routes/.test(what) ? 5 : 3}: ${what}`);
  }

  #mayDiffer(name: string): boolean {
    return this.stage.isExcused(name) || !this.#runs(this.world.node(name));
  }

  #runs(machine: Machine): boolean {
    return machine.process !== undefined && machine.awake && machine.clock?.running === true;
  }

  /** 2: leases end by themselves, and after `vpnd down` a client's kernel is as it was. */
  #leftovers(): readonly string[] {
    const now = this.world.clock.monotonic();
    const found: string[] = [];
    for (const machine of this.world.all()) {
      if (!this.#runs(machine)) continue;
      const { name, role } = machine;
      const steady = now - (this.stage.steadySince.get(name) ?? 0) > 20_000 && !this.stage.isExcused(name);
      for (const record of inForce(machine)) {
        const key = `${name} ${record.session}`;
        const known = this.#leases.get(key);
        if (known?.updatedAt !== record.updatedAt) this.#leases.set(key, { updatedAt: record.updatedAt, seenAt: now });
        else if (steady && now - known.seenAt > this.rules.lease + 20_000)
          found.push(
            `2: ${name}: session ${record.session} is in force ${now - known.seenAt} ms after it was renewed last`,
          );
      }
      const { facts } = machine.store;
      const wanted = facts.get('wish') !== undefined || this.stage.asking.has(name);
      if (role === 'client' && !wanted && !this.stage.isExcused(name) && steady)
        for (const unit of machine.kernel.units())
          found.push(`2: ${name}: no tunnel is wanted, and its kernel holds a ${unit.kind}`);
    }
    return found;
  }

  /** 3: nothing is given to another session before it has rested. */
  #reuse(): readonly string[] {
    const now = this.world.clock.monotonic();
    const found: string[] = [];
    const own = (what: string, session: string, rest: number) => {
      const before = this.#owners.get(what);
      if (before !== undefined && before.session !== session && now - before.seenAt < rest)
        found.push(`3: ${what} went from one session to another within ${now - before.seenAt} ms`);
      this.#owners.set(what, { session, seenAt: now });
    };
    for (const { name, store } of this.world.of('supernode')) {
      for (const one of books<Front>(store, 'front/')) {
        own(`inner address ${one.inner.ipv4}`, one.session, REST.address);
        if (one.port !== undefined) own(`relay port ${one.port} of ${name}`, one.session, REST.port);
      }
      for (const one of books<Back>(store, 'back/'))
        if (one.port !== undefined) own(`relay port ${one.port} of ${name}`, one.session, REST.port);
    }
    return found;
  }

  /** 4: a supernode that has heard of it has no stream and nothing of a session of who is shut out, ever again. */
  async #shutOut(): Promise<readonly string[]> {
    const found: string[] = [];
    const now = this.world.clock.monotonic();
    if (this.stage.shutOut.size === 0) return found;
    for (const machine of this.world.of('supernode')) {
      if (!this.#runs(machine)) continue;
      const status = await machine.running.local.status();
      const epoch = epochOnDisk(this.world, machine);
      const known = this.#epochs.get(machine.name);
      if (known === undefined || epoch > known.epoch) this.#epochs.set(machine.name, { epoch, since: now });
      const { epoch: latest, since } = this.#epochs.get(machine.name) ?? { epoch: 0, since: now };
      for (const [name, out] of this.stage.shutOut) {
        if (out.epoch > latest || now - Math.max(since, out.at) < AT_ONCE || name === machine.name) continue;
        const { id } = this.world.node(name);
        if (status.peers?.some((peer) => peer.peerId === id))
          found.push(`4: ${name} is shut out and has a stream to ${machine.name}`);
        if (this.stage.isExcused(machine.name)) continue;
        const forLong = now - Math.max(since, out.at) > CLOSED_AFTER;
        const has = (session: string) => forLong || machine.store.ledger.session(session as SessionId)?.desired.length;
        for (const { session, client, exit, supernode } of books<Front>(machine.store, 'front/'))
          if ([client, exit, supernode].includes(id) && has(session))
            found.push(`4: ${name} is shut out, and ${machine.name} has session ${session} with it`);
        for (const { session, exit, origin } of books<Back>(machine.store, 'back/'))
          if ([exit, origin].includes(id) && has(session))
            found.push(`4: ${name} is shut out, and ${machine.name} serves session ${session} of it`);
      }
    }
    return found;
  }

  /** 7, where nothing happens but to the control plane. */
  #losses(): readonly string[] {
    const traffic = this.isOver ? undefined : this.rules.traffic;
    return [...(traffic ?? [])].flatMap(([name, { lost }]) => (lost === 0 ? [] : [`7: ${name} lost ${lost} packets`]));
  }

  /** A mistake of the program, whatever it made of it. */
  #mistakes(): readonly string[] {
    const fresh = this.world.lines.slice(this.#lines);
    this.#lines = this.world.lines.length;
    return fresh.flatMap(({ node, level, text, fields: { err } }) => {
      const inside = err instanceof TypeError || err instanceof RangeError || err instanceof ReferenceError;
      const strange = level === 'error' && err instanceof Error && !('code' in err);
      return inside || strange ? [`0: ${node} broke inside: ${text}: ${String((err as Error).stack)}`] : [];
    });
  }
}

/** Of the list of who is shut out that a node would start with. */
export function epochOnDisk(world: OverlayWorld, { store }: Machine): number {
  const kept = store.facts.get<{ readonly head: Parameters<Statements['checkRevocations']>[1] }>('revocations');
  if (kept === undefined) return 0;
  const head = world.statements.checkRevocations(keyOf(world.base.id), kept.head);
  return head.ok ? head.value.epoch : 0;
}

const inForce = (machine: Machine): readonly SessionRecord[] =>
  machine.store.ledger.sessions().filter((one) => one.desired.length > 0);

const books = <T>({ facts }: Machine['store'], prefix: string): readonly T[] =>
  facts.names(prefix).flatMap((name) => facts.get<T>(name) ?? []);
