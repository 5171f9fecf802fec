import { setTimeout as pause } from 'node:timers/promises';
import { Privacy } from '../../src/gen/vpnd/v1/types_pb.js';
import type { Home } from '../lab/index.js';
import { CANARY } from '../leaks/canary.js';
import {
  activeSession,
  type Fleet,
  isUp,
  type OverlayNode,
  PacketTrain,
  standbySession,
  wireGuardDevices,
  wireGuardPeers,
} from '../overlay/index.js';
import { type Chronicle, inWords } from './chronicle.js';
import { kernelTrouble } from './look.js';
import type { Underlay } from './underlay.js';

/** How a client asks to be connected. */
export interface Wish {
  /** `auto` unless given: over relays first, then direct where that works. */
  readonly privacy?: 'auto' | 'private' | 'direct';
  readonly region?: string;
  /** No standby is waited for: there is none, or it does not matter. */
  readonly alone?: boolean;
}

/** Who is what for a client, by names; empty for nobody. */
export interface Standing {
  readonly exit: string;
  /** The supernode that granted the session. */
  readonly supernode: string;
  readonly standby: string;
}

const PRIVACY = { auto: Privacy.AUTO, private: Privacy.PRIVATE, direct: Privacy.DIRECT } as const;
const UP_LIMIT_MS = 60_000;
const LOOK_EVERY_MS = 250;
/** Everything converges within this once faults have stopped; traffic flows again within this in any case. */
export const CONVERGENCE_SECONDS = 60;
/** A standby that is there takes over in a second or two: what takes longer than this was something else. */
export const FAILOVER_SECONDS = 20;
/** Kernels agree: what nobody can be told of any more has its lease to run out, and then the next look at it. */
export const AGREEMENT_SECONDS = 120;

/** What a story has to bear with: a machine that emulates another one is slow, and its lines may be long and lossy. */
export interface Conditions {
  /** Times by which every limit is longer. */
  readonly patience: number;
  /** Packets a second of each client. */
  readonly rate: number;
  /** One way, of what passes the routers of clients; undefined for as it is. Needs netem. */
  readonly line?: { readonly delayMs: number; readonly lossPercent: number };
}

export const AS_IT_IS: Conditions = { patience: 1, rate: 50 };

export interface Expectation {
  readonly client: string;
  readonly fromMs: number;
  readonly untilMs: number | undefined;
  readonly why: string;
}

/** What a scenario does and looks at. Whatever it throws is told as what did not hold. */
export class Story {
  readonly trains = new Map<string, PacketTrain>();
  readonly expectations: Expectation[] = [];
  /** Since when clients are protected, in seconds since 1970. */
  protectedSince = Number.POSITIVE_INFINITY;

  readonly #measured = new Map<string, number>();

  constructor(
    readonly fleet: Fleet,
    readonly names: ReadonlyMap<string, string>,
    private readonly chronicle: Chronicle,
    private readonly underlay: Underlay,
    private readonly conditions: Conditions,
  ) {}

  node(name: string): OverlayNode {
    return this.fleet.node(name);
  }

  home(name: string): Home {
    return this.fleet.home(name);
  }

  /** Bring a client up, with a standby unless it is alone; from here on its traffic flows and is watched. */
  async connected(client = 'c1', { privacy = 'auto', region = '', alone = false }: Wish = {}): Promise<Standing> {
    const node = this.node(client);
    await this.underlay.watch(this.home(client));
    // On a busy machine exits and supernodes take their time to find each other: that is no part of the story.
    await this.eventually(`${client} connects`, async () => {
      await node.api.up(
        { privacy: PRIVACY[privacy], region },
        AbortSignal.timeout(UP_LIMIT_MS * this.conditions.patience),
      );
      return '';
    });
    if (!this.trains.has(client)) {
      this.trains.set(client, await PacketTrain.start(node.host, this.fleet.web, this.conditions.rate, CANARY));
    }
    if (!alone) await this.settles(client);
    // From the last one on: before, another client's packets were in the open as they should be.
    this.protectedSince = Date.now() / 1000;
    const standing = await this.standing(client);
    this.chronicle.mark('seen', `${client} is connected by ${standing.exit}`);
    return standing;
  }

  async standing(client = 'c1'): Promise<Standing> {
    const status = await this.node(client).api.status();
    const [active, standby] = [activeSession(status), standbySession(status)];
    const name = (id = '') => this.names.get(id) ?? '';
    return { exit: name(active?.exitId), supernode: name(active?.supernodeId), standby: name(standby?.exitId) };
  }

  /** A fault, told in the report under these words. */
  async happens(what: string, act: () => Promise<unknown> | unknown): Promise<void> {
    this.chronicle.mark('fault', what);
    await act();
  }

  /** The end of a fault. */
  async mended(what: string, act: () => Promise<unknown> | unknown): Promise<void> {
    await act();
    this.chronicle.mark('mend', what);
  }

  /** Time in which nothing is done. For how long a fault lasts, never for how long something takes. */
  async passes(seconds: number): Promise<void> {
    await pause(seconds * 1000);
  }

  /** A page comes through the tunnel: of one of these exits, where any are named. Answers with the exit's name. */
  async carries(client = 'c1', by: readonly string[] = [], withinSeconds = CONVERGENCE_SECONDS): Promise<string> {
    const exits = new Map(this.fleet.exits.map(({ name }) => [this.home(name).publicIpv4, name]));
    for (const { name, host } of this.fleet.supernodes) exits.set(host.ipv4 ?? '', name);
    let found = '';
    const from = this.chronicle.lastChange();
    await this.eventually(
      `${client} gets a page${by.length === 0 ? '' : ` by ${by.join(' or ')}`}`,
      async () => {
        const seen = await this.fleet
          .seenIp(this.node(client).host, undefined, 2 * this.conditions.patience)
          .catch((thrown) => told(thrown));
        found = exits.get(seen) ?? '';
        if (found === '') return `it came from ${seen}`;
        return by.length > 0 && !by.includes(found) ? `it came by ${found}` : '';
      },
      withinSeconds,
    );
    const took = this.chronicle.since() - from;
    this.chronicle.mark('seen', `${client} gets a page by ${found}`);
    // The first one after each change says how long it took; the others only that it is so.
    if (this.#measured.get(client) !== from) this.chronicle.figure(`${client}: a page again`, inWords(took));
    this.#measured.set(client, from);
    return found;
  }

  /** The client is up again, with a standby unless it has none to have. */
  async settles(client = 'c1', { alone = false } = {}): Promise<void> {
    const node = this.node(client);
    await this.eventually(
      `${client} is up${alone ? '' : ', with a standby'}`,
      async () => {
        const status = await node.api.status();
        if (!isUp(activeSession(status))) return `its session is ${activeSession(status)?.state ?? 'none'}`;
        return alone || isUp(standbySession(status)) ? '' : `it has no standby: ${status.problems.join('; ')}`;
      },
      AGREEMENT_SECONDS,
    );
    this.chronicle.mark('seen', `${client} is as it was${alone ? '' : ', standby included'}`);
  }

  /** Every kernel tells the same story, and clients that were connected get their pages. */
  async agrees(withinSeconds = AGREEMENT_SECONDS): Promise<void> {
    const from = this.chronicle.lastChange();
    for (const client of this.trains.keys()) await this.carries(client);
    await this.eventually('kernels agree', async () => (await kernelTrouble(this.fleet)).join('; '), withinSeconds);
    this.chronicle.figure('kernels agree', inWords(this.chronicle.since() - from));
    this.chronicle.mark('seen', 'kernels agree');
  }

  /** Of this client's packets none is lost from here to the end, or to what ends it. Told at the end. */
  losesNothing(client: string, why: string): () => void {
    const at = this.expectations.length;
    const expected = { client, why, fromMs: this.chronicle.since(), untilMs: undefined };
    this.expectations.push(expected);
    return () => {
      this.expectations[at] = { ...expected, untilMs: this.chronicle.since() };
    };
  }

  /** What must be so now. */
  claim(what: string, so: boolean, otherwise = ''): void {
    if (!so) throw new Error(`not so: ${what}${otherwise === '' ? '' : ` (${otherwise})`}`);
    this.chronicle.mark('seen', what);
  }

  /** What must be so soon: `trouble` answers with what is still wrong, or with nothing. */
  async eventually(what: string, trouble: () => Promise<string>, withinSeconds = CONVERGENCE_SECONDS): Promise<void> {
    const giveUp = performance.now() + withinSeconds * 1000 * this.conditions.patience;
    for (;;) {
      const seen = await trouble().catch(told);
      if (seen === '') return;
      if (performance.now() > giveUp) throw new Error(`not within ${withinSeconds} s: ${what}; seen last: ${seen}`);
      await pause(LOOK_EVERY_MS);
    }
  }

  /**
   * A revoked client has no tunnel any more and gets none: no exit has a peer for it, and no supernode a stream with it.
   * From here on it is nobody whose kernels must agree with others'.
   */
  async shutOut(client: string): Promise<void> {
    const train = this.trains.get(client);
    this.trains.delete(client);
    await train?.stop();
    const { host } = this.node(client);
    const keys = (await wireGuardDevices(this.node(client))).map(({ publicKey }) => publicKey);
    const looks = async (): Promise<string> => {
      const peers = (await Promise.all(this.fleet.exits.map(wireGuardPeers))).flat();
      if (peers.some((key) => keys.includes(key))) return 'an exit has a peer for it';
      const streams = await host.exec(['ss', '-Htn', 'state', 'established', '( dport = :443 )']);
      return streams.trim() === '' ? '' : `it has a connection: ${streams.trim().split('\n')[0]}`;
    };
    await this.eventually(`${client} has neither tunnel nor stream`, looks);
    this.chronicle.mark('seen', `${client} is shut out`);
    const peers = (await Promise.all(this.fleet.exits.map(wireGuardPeers))).flat();
    this.claim(`no exit has a peer of ${client}`, !peers.some((key) => keys.includes(key)));
  }

  /** Clients were not, or not all of the time, protected before: what was seen of them until now was in order. */
  protectedFromNow(): void {
    this.protectedSince = Date.now() / 1000;
  }

  /** The machine of a client is carried over to another home network. */
  async carriedTo(client: string, home: Home): Promise<void> {
    await this.underlay.watch(home);
    await home.adopt(this.node(client).host);
  }

  figure(what: string, value: string): void {
    this.chronicle.figure(what, value);
  }
}

const told = (thrown: unknown): string =>
  (thrown instanceof Error ? thrown.message : String(thrown)).split('\n')[0]?.slice(0, 300) ?? '';
