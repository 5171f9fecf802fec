import type { Member } from '../load/members.js';

/** What the program in visitors.ts reads from standard input, and what it prints: a `VisitTally` per line. */
export interface VisitOrders {
  /** PEM. */
  readonly ca: string;
  readonly supernodes: readonly { readonly host: string; readonly port: number; readonly id: string }[];
  readonly region: string;
  readonly members: readonly Member[];
  /** Addresses of this machine to connect from, in turn: a supernode limits how often one address may come. */
  readonly from: readonly string[];
  readonly perSecond: number;
  /** How long a session is kept, at least and at most; evenly distributed. */
  readonly holdMs: readonly [number, number];
  /** Of a hundred sessions, how many are left without a word: the connection is cut. */
  readonly vanishPercent: number;
  readonly tellEveryMs: number;
  /** For the order in which supernodes, lengths and paths are chosen. */
  readonly seed: number;
}

/** Since the line before. */
export interface VisitTally {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly opened: number;
  readonly closed: number;
  readonly vanished: number;
  /** Visits that could not begin because every member was on one. */
  readonly missed: number;
  /** Streams and sessions there are now. */
  readonly open: number;
  /** By what was said. */
  readonly failures: Readonly<Record<string, number>>;
  /** From the first packet of the connection to being let in. */
  readonly streamMs: readonly number[];
  /** From asking for an exit to the grant. */
  readonly grantMs: readonly number[];
  /** From closing the session to the word that nothing is left of it. */
  readonly closeMs: readonly number[];
}
