import type { Dependence } from '../../support/overlay-world/nat.js';

/** A router, in plain data. */
export interface RouterSpec {
  readonly mapping: Dependence;
  readonly filtering: Dependence;
  readonly preservesPorts: boolean;
  readonly hairpins: boolean;
  /** Milliseconds that a silent mapping lives. */
  readonly life: number;
}
/** `none`: a public address. */
export type Router = RouterSpec | 'none';

/** Who is in a story, and where. */
export interface Cast {
  readonly supernodes: readonly { readonly region: string; readonly egress: boolean }[];
  readonly exits: readonly {
    readonly region: string;
    readonly router: Router;
    readonly home?: string | undefined;
    readonly sessionCapacity: number;
  }[];
  readonly clients: readonly {
    readonly region: string;
    readonly router: Router;
    readonly home?: string | undefined;
    readonly standby: boolean;
    readonly privacy: 'auto' | 'private';
  }[];
}

/** One thing that happens; `lasts` is after how many milliseconds it is undone. Each makes sense without the others. */
export type Deed =
  | { readonly do: 'up'; readonly who: string; readonly region?: string | undefined }
  | { readonly do: 'down' | 'rotate' | 'rebind' | 'restart'; readonly who: string }
  | { readonly do: 'path'; readonly who: string; readonly path: 'direct' | 'relay' | 'any' }
  | {
      readonly do: 'crash' | 'power-off' | 'freeze' | 'stall' | 'unplug' | 'no-internet' | 'no-udp' | 'drain';
      readonly who: string;
      readonly lasts: number;
    }
  /** The process dies at the n-th thing it does from now on. */
  | {
      readonly do: 'die';
      readonly who: string;
      readonly at: 'write' | 'kernel' | 'message';
      readonly when: 'before' | 'after';
      readonly nth: number;
      readonly power: boolean;
      readonly lasts: number;
    }
  | { readonly do: 'reset'; readonly who: string; readonly other: string }
  | {
      readonly do: 'cut';
      readonly who: string;
      readonly other: string;
      readonly what: 'all' | 'control';
      readonly lasts: number;
    }
  /** The kernel's next changes fail, are made and said to fail, or take long and fail. */
  | {
      readonly do: 'kernel';
      readonly who: string;
      readonly how: 'fails' | 'lies' | 'hangs';
      readonly times: number;
    }
  | { readonly do: 'disk'; readonly who: string; readonly how: 'full' | 'read-only'; readonly lasts: number }
  | { readonly do: 'move'; readonly who: string; readonly router: Router }
  /** Somebody removes one thing of ours from a kernel; `pick` of 0 to 1 says which. */
  | { readonly do: 'vandal'; readonly who: string; readonly pick: number }
  | {
      readonly do: 'weather';
      readonly who: string;
      readonly loss: number;
      readonly doubled: number;
      readonly jitter: number;
      readonly delay: number;
      readonly lasts: number;
    }
  /** The wall clock is set, and set right again after a while. */
  | { readonly do: 'clock'; readonly who: string; readonly by: number; readonly lasts: number }
  /** base shuts a peer out, or bans a supernode. */
  | { readonly do: 'shut-out'; readonly who: string; readonly lasts: number | 'for good' };

export interface Step {
  readonly deed: Deed;
  /** Milliseconds until the next one. */
  readonly wait: number;
}

/**
 * What happens in a run, as data: drawn from a seed once, and then no chance decides about it any more. Steps may be left
 * out, and those that stay mean what they meant.
 */
export interface Story {
  /** Of the world's own chance: keys, jitter, which datagram is lost. */
  readonly seed: number;
  /** In `control` nothing happens to kernels and to the ways of packets, and no packet may be lost. */
  readonly kind: 'anything' | 'control';
  readonly cast: Cast;
  readonly steps: readonly Step[];
}

export const keeping = (story: Story, kept: readonly number[]): Story => ({
  ...story,
  steps: story.steps.filter((_, index) => kept.includes(index)),
});
