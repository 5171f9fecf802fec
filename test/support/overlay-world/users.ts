import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  type NodeStatusSchema,
  RotateKeyRequestSchema,
  RotateRequestSchema,
  type SessionStatusSchema,
  SetPathRequestSchema,
  UpRequestSchema,
} from '../../../src/gen/vpnd/v1/admin_pb.js';
import type { Path } from '../../../src/gen/vpnd/v1/types_pb.js';
import { toVpndError, type VpndError } from '../../../src/model/errors.js';
import type { Millis } from '../../../src/model/time.js';
import type { VirtualClock } from '../virtual-clock.js';
import type { Machine } from './machine.js';

export interface Wish {
  readonly region?: string;
  readonly exit?: string;
}

type Status = MessageInitShape<typeof NodeStatusSchema>;
type SessionStatus = MessageInitShape<typeof SessionStatusSchema>;

/** What people do with `vpnd`, and what it shows them. */
export function usersOf({ clock, node }: { readonly clock: VirtualClock; readonly node: (name: string) => Machine }) {
  const users = {
    /** `vpnd up` as a promise that virtual time has to bring to its end. */
    upSoon(name: string, wish: Wish = {}, signal = new AbortController().signal): Promise<Status> {
      const request = create(UpRequestSchema, { region: wish.region ?? '', exit: wish.exit ?? '' });
      return node(name).running.local.up?.(request, signal) ?? Promise.reject(new Error(`${name} is no client`));
    },
    up: (name: string, wish: Wish = {}): Promise<Status> => clock.run(users.upSoon(name, wish)),
    /** `vpnd up`: the error it ends with, or undefined. */
    async refusal(name: string, wish: Wish = {}): Promise<VpndError | undefined> {
      return clock.run(users.upSoon(name, wish).then(() => undefined, toVpndError));
    },
    downSoon(name: string) {
      const { down } = node(name).running.local;
      if (down === undefined) throw new Error(`${name} is no client`);
      return down();
    },
    down: (name: string) => clock.run(users.downSoon(name)),
    async status(name: string): Promise<Status> {
      return clock.run(node(name).running.local.status());
    },
    /** A client's sessions as `vpnd status` shows them. */
    async sessions(name: string): Promise<readonly SessionStatus[]> {
      return ((await users.status(name)).sessions ?? []) as readonly SessionStatus[];
    },
    /** The one that carries its traffic, or the one of another use. */
    async session(name: string, use = 'active'): Promise<SessionStatus | undefined> {
      return (await users.sessions(name)).find((one) => one.use === use);
    },
    /** `vpnd rotate` */
    rotateSoon(name: string, reason = ''): Promise<Status> {
      const { rotate } = node(name).running.local;
      if (rotate === undefined) throw new Error(`${name} is no client`);
      return rotate(create(RotateRequestSchema, { reason }), new AbortController().signal);
    },
    rotate: (name: string, reason = ''): Promise<Status> => clock.run(users.rotateSoon(name, reason)),
    /** `vpnd path` */
    pathSoon(name: string, path: Path): Promise<Status> {
      const { setPath } = node(name).running.local;
      if (setPath === undefined) throw new Error(`${name} is no client`);
      return setPath(create(SetPathRequestSchema, { path }), new AbortController().signal);
    },
    setPath: (name: string, path: Path): Promise<Status> => clock.run(users.pathSoon(name, path)),
    /** Codes of what `vpnd events` shows, oldest first. */
    events: (name: string) => (node(name).running.local.events?.(1_000) ?? []).map((event) => event.code),
    /** `vpnd keys rotate` */
    rotateKeySoon(name: string, what: string, how: { readonly now?: boolean; readonly overlap?: Millis } = {}) {
      const { rotateKey } = node(name).running.local;
      if (rotateKey === undefined) throw new Error(`${name} rotates no keys`);
      const { now = true, overlap = 0 } = how;
      return rotateKey(create(RotateKeyRequestSchema, { what, now, overlapMs: BigInt(overlap) }));
    },
    rotateKey: (name: string, what: string, how: { readonly now?: boolean; readonly overlap?: Millis } = {}) =>
      clock.run(users.rotateKeySoon(name, what, how)),
    upstream: async (name: string) => (await users.status(name)).upstream,
    async connected(name: string): Promise<boolean> {
      return node(name).process !== undefined && (await users.upstream(name))?.state === 'up';
    },
    async untilConnected(names: readonly string[], limit = 60_000): Promise<void> {
      const began = clock.monotonic();
      for (const name of names) {
        while (!(await users.connected(name))) {
          if (clock.monotonic() - began > limit) throw new Error(`${name} is not connected after ${limit} ms`);
          await clock.advance(100);
        }
      }
    },
  };
  return users;
}
