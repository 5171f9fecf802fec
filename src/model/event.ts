import type { SessionId } from './ids.js';
import type { Instant } from './time.js';

/**
 * What can happen on a node, in stable words: `vpnd events` prints them, docs/runbook.md says what each means. A new one
 * is an addition; renaming one breaks what people have built on `vpnd events --json`.
 */
export const EVENT_CODES = [
  // a client's traffic
  'connected',
  'disconnected',
  'waiting',
  'rotated',
  'failed-over',
  'standby-ready',
  'standby-lost',
  'exit-silent',
  // the way a session's packets take
  'path-direct',
  'path-relay',
  'path-stream',
  // the network underneath
  'network-changed',
  'woke',
  'portal',
  // the control plane
  'supernode-changed',
  'drain-started',
  'drain-ended',
  'session-opened',
  'session-closed',
  // an exit's own internet
  'uplink-down',
  'uplink-up',
  // an exit's hours, and its owner's pauses
  'exit-closed',
  'exit-open',
  // keys of this node
  'key-rotated',
  'key-retired',
  // this machine
  'repaired',
  'problem',
] as const;
export type EventCode = (typeof EVENT_CODES)[number];

/** Something that happened on a node, as a person reads it. */
export interface NodeEvent {
  /** Counts up by one; restarts go on where the last run ended. */
  readonly sequence: number;
  readonly at: Instant;
  readonly code: EventCode;
  /** One line, with no key and no address of a peer in it. */
  readonly text: string;
  readonly session: SessionId | undefined;
}
