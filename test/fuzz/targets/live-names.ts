import type { Endpoint } from '../../../src/model/address.js';
import type { PeerId, SessionId } from '../../../src/model/ids.js';
import type { Signed } from '../../../src/model/membership.js';
import type { OverlayWorld } from '../../support/overlay-world.js';

/** Which names of a message are put in the place of ones that mean something at the moment: bits of a step's `live`. */
const LIVE = { sessions: 1, requests: 2, peers: 4, endpoints: 8, generations: 16, keys: 32, statements: 64 } as const;

/** What is in use in a world: a message about a session that nobody has gets no further than a look into a map. */
export interface LiveNames {
  readonly sessions: readonly SessionId[];
  readonly peers: readonly PeerId[];
  readonly endpoints: readonly Endpoint[];
  readonly keys: readonly string[];
}

interface Book {
  readonly session: SessionId;
  readonly port?: number;
  readonly localIp?: string;
}

export function liveNames(world: OverlayWorld): LiveNames {
  const machines = world.all();
  const books = machines.flatMap(({ store: { facts } }) =>
    [...facts.names('front/'), ...facts.names('back/')].flatMap((name) => facts.get<Book>(name) ?? []),
  );
  const units = machines.flatMap(({ kernel }) => kernel.units());
  return {
    sessions: [...new Set(books.map((one) => one.session))],
    peers: machines.filter(({ role }) => role !== 'base').map((one) => one.id),
    endpoints: [
      ...books.flatMap(({ port, localIp }) => (port && localIp ? [{ ip: localIp, port } as unknown as Endpoint] : [])),
      ...machines.map(({ ip }) => ({ ip, port: 443 }) as Endpoint),
    ],
    keys: units.flatMap((unit) => (unit.kind === 'peer' ? [unit.publicKey as string] : [])),
  };
}

/** What was last said on streams: answers to it are not thrown away unread. */
export class Overheard {
  readonly ids: string[] = [];
  readonly requests: number[] = [];
  readonly statements: Signed[] = [];

  hear(message: object): void {
    visit(message, (key, value) => {
      if (key === 'requestId' && typeof value === 'number') keep(this.requests, value);
      if (key === 'id' && typeof value === 'string' && value.length === 32) keep(this.ids, value);
      if (isSigned(value)) keep(this.statements, value);
      return value;
    });
  }
}

function keep<T>(list: T[], value: T): void {
  list.push(value);
  if (list.length > 24) list.shift();
}

/** The same message about things that are there; which of them, `choice` says. */
export function enlivened<T extends object>(
  message: T,
  bits: number,
  choice: number,
  names: LiveNames,
  heard: Overheard,
): T {
  let turn = choice;
  const one = <V>(list: readonly V[], otherwise: V): V => list[turn++ % Math.max(1, list.length)] ?? otherwise;
  return visit(message, (key, value) => {
    const has = (bit: number): boolean => (bits & bit) !== 0;
    if (key === 'session' && has(LIVE.sessions)) return one(names.sessions, value);
    if (key === 'id' && typeof value === 'string' && value.length === 32 && has(LIVE.requests))
      return one(heard.ids, value);
    if (key === 'requestId' && has(LIVE.requests)) return one(heard.requests, value);
    if (typeof value === 'string' && value.length === 52 && has(LIVE.peers)) return one(names.peers, value);
    if (isEndpoint(value) && has(LIVE.endpoints)) return one(names.endpoints, value);
    if (key === 'generation' && has(LIVE.generations)) return (turn++ % 6) + 1;
    if (typeof value === 'string' && /^[A-Za-z0-9+/]{43}=$/.test(value) && has(LIVE.keys))
      return one(names.keys, value);
    if (isSigned(value) && has(LIVE.statements)) return one(heard.statements, value);
    return value;
  }) as T;
}

const isSigned = (value: unknown): value is Signed =>
  typeof value === 'object' &&
  value !== null &&
  'body' in value &&
  'signature' in value &&
  Object.keys(value).length === 2;
const isEndpoint = (value: unknown): value is Endpoint =>
  typeof value === 'object' && value !== null && 'ip' in value && 'port' in value;

type Change = (key: string, value: unknown) => unknown;

function visit(value: unknown, change: Change): unknown {
  if (Array.isArray(value)) return value.map((item) => visit(change('', item), change));
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      const changed = change(key, inner);
      return [key, changed === inner ? visit(inner, change) : changed];
    }),
  );
}
