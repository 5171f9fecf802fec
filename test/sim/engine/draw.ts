import { minutes, seconds } from '../../../src/model/time.js';
import type { Dependence } from '../../support/overlay-world/nat.js';
import { seededRandom } from '../../support/seeded-random.js';
import type { Cast, Deed, Router, Step, Story } from './story.js';

/** Every so many seeds nothing happens to kernels and ways, so that the seventh invariant can be judged at every step. */
const CONTROL_EVERY = 4;
const STEPS = 14;
const HOUR = minutes(60);

/** Chance in small change. */
class Dice {
  readonly #random;
  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }
  fraction(): number {
    return this.#random.fraction();
  }
  below(n: number): number {
    return Math.floor(this.#random.fraction() * n);
  }
  between(from: number, to: number): number {
    return from + this.below(to - from);
  }
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }
  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new RangeError('nothing to pick from');
    return list[this.below(list.length)] as T;
  }
}

/** The story of a seed: always the same one. */
export function drawStory(seed: number): Story {
  const dice = new Dice(seed * 7 + 1);
  const kind = seed % CONTROL_EVERY === 0 ? 'control' : 'anything';
  const cast = drawCast(dice, kind);
  const clients = cast.clients.map((_, index) => `c${index}`);
  const first = clients.map((who): Step => ({ deed: { do: 'up', who }, wait: dice.between(200, 1_500) }));
  const opening = kind === 'control' ? [] : first;
  const rest = Array.from(
    { length: STEPS },
    (): Step => ({
      deed: kind === 'control' ? controlDeed(dice, cast) : anyDeed(dice, cast),
      wait: dice.oneIn(9) ? dice.between(20_000, 40_000) : dice.between(20, 4_500),
    }),
  );
  return { seed, kind, cast, steps: [...opening, ...rest] };
}

const DEPENDENCES: readonly Dependence[] = ['endpoint-independent', 'address-dependent', 'address-and-port-dependent'];

function drawRouter(dice: Dice): Router {
  if (dice.oneIn(6)) return 'none';
  const mapping = dice.pick(DEPENDENCES);
  return {
    mapping,
    filtering: dice.pick(DEPENDENCES),
    preservesPorts: mapping === 'endpoint-independent' && !dice.oneIn(3),
    hairpins: dice.oneIn(2),
    // RFC 4787 asks for two minutes; some forget after little more than the 25 s between keepalives.
    life: dice.oneIn(3) ? seconds(35) : minutes(2),
  };
}

function drawCast(dice: Dice, kind: Story['kind']): Cast {
  const regions = dice.oneIn(3) ? ['us', 'eu', 'ap', 'eu'] : ['us', 'eu', 'ap'];
  const shared =
    kind === 'anything' && dice.oneIn(6) ? { router: { ...homeRouter, hairpins: dice.oneIn(2) } } : undefined;
  const router = (): Router => (kind === 'control' ? homeRouter : drawRouter(dice));
  return {
    supernodes: regions.map((region, index) => ({ region, egress: index === 2 && dice.oneIn(4) })),
    exits: (dice.oneIn(2) ? ['eu', 'ap'] : ['eu', 'ap', 'eu']).map((region, index) => ({
      region,
      router: router(),
      sessionCapacity: dice.oneIn(4) ? 2 : 50,
      ...(index === 0 && shared !== undefined ? { ...shared, home: 'shared' } : {}),
    })),
    clients: Array.from({ length: dice.between(1, 4) }, (_, index) => ({
      region: dice.pick(['us', 'us', 'eu', 'ap']),
      router: router(),
      standby: dice.oneIn(2),
      privacy: dice.oneIn(4) ? ('private' as const) : ('auto' as const),
      ...(index === 0 && shared !== undefined ? { ...shared, home: 'shared', privacy: 'auto' as const } : {}),
    })),
  };
}

const homeRouter: Exclude<Router, 'none'> = {
  mapping: 'endpoint-independent',
  filtering: 'address-and-port-dependent',
  preservesPorts: true,
  hairpins: false,
  life: minutes(2),
};

const names = (cast: Cast) => {
  const supernodes = cast.supernodes.map((_, index) => String.fromCharCode(97 + index));
  const exits = cast.exits.map((_, index) => `x${index}`);
  const clients = cast.clients.map((_, index) => `c${index}`);
  return { supernodes, exits, clients, all: ['base', ...supernodes, ...exits, ...clients] };
};

/** How long something is away: mostly moments, sometimes so long that leases end. */
const away = (dice: Dice): number => (dice.oneIn(6) ? dice.between(60_000, 150_000) : dice.between(300, 20_000));

function controlDeed(dice: Dice, cast: Cast): Deed {
  const { all, clients } = names(cast);
  const who = dice.pick(all);
  const lasts = Math.min(away(dice), 20_000);
  switch (dice.below(11)) {
    case 0:
    case 1:
      return { do: 'crash', who, lasts };
    case 2:
      return { do: 'reset', who, other: dice.pick(all) };
    case 3:
    case 4:
      return { do: 'cut', who, other: dice.pick(all.filter((one) => one !== who)), what: 'control', lasts };
    case 5:
      return { do: 'disk', who, how: dice.oneIn(2) ? 'full' : 'read-only', lasts: dice.between(500, 8_000) };
    case 6:
      return { do: 'clock', who, by: dice.pick([-HOUR, HOUR, -minutes(7), minutes(7)]), lasts };
    case 7:
      return { do: 'crash', who: 'base', lasts: dice.oneIn(4) ? minutes(10) : lasts };
    case 8:
      // What stands still for longer than ten seconds takes itself for having slept, and goes back to its relays.
      return { do: 'stall', who, lasts: Math.min(lasts, 8_000) };
    case 9:
      return { do: 'restart', who };
    default:
      return { do: 'restart', who: dice.pick(clients) };
  }
}

type Draw = (dice: Dice, cast: Cast) => Deed;

const upDeed: Draw = (dice, cast) => {
  const { clients } = names(cast);
  const who = dice.pick(clients);
  // One region's exits may all be where two relays cannot be had.
  const isPrivate = cast.clients[Number(who.slice(1))]?.privacy === 'private';
  return { do: 'up', who, region: isPrivate ? undefined : dice.pick([undefined, 'eu', 'ap']) };
};

const DEEDS: readonly (readonly [weight: number, draw: Draw])[] = [
  [4, upDeed],
  [1, (dice, cast) => ({ do: 'down', who: dice.pick(names(cast).clients) })],
  [1, (dice, cast) => ({ do: 'rotate', who: dice.pick(names(cast).clients) })],
  [
    1,
    (dice, cast) => ({
      do: 'path',
      who: dice.pick(names(cast).clients),
      path: dice.pick(['direct', 'relay', 'any'] as const),
    }),
  ],
  [2, (dice, cast) => ({ do: 'crash', who: dice.pick(names(cast).all), lasts: away(dice) })],
  [1, (dice) => ({ do: 'crash', who: 'base', lasts: dice.oneIn(5) ? minutes(10) : away(dice) })],
  [2, (dice, cast) => ({ do: 'power-off', who: dice.pick(names(cast).all), lasts: away(dice) })],
  [
    4,
    (dice, cast) => ({
      do: 'die',
      who: dice.pick(names(cast).all),
      at: dice.pick(['write', 'kernel', 'message'] as const),
      when: dice.pick(['before', 'after'] as const),
      nth: 1 + dice.below(dice.oneIn(3) ? 12 : 4),
      power: dice.oneIn(3),
      lasts: away(dice),
    }),
  ],
  [1, (dice, cast) => ({ do: 'restart', who: dice.pick(names(cast).all) })],
  [1, (dice, cast) => ({ do: 'reset', who: dice.pick(names(cast).all), other: dice.pick(names(cast).all) })],
  [2, cut],
  [
    2,
    (dice, cast) => ({
      do: 'kernel',
      who: dice.pick(names(cast).all),
      how: dice.pick(['fails', 'lies', 'hangs'] as const),
      times: 1 + dice.below(3),
    }),
  ],
  [
    1,
    (dice, cast) => ({
      do: 'disk',
      who: dice.pick(names(cast).all),
      how: dice.pick(['full', 'read-only'] as const),
      lasts: dice.between(500, 15_000),
    }),
  ],
  [
    1,
    (dice, cast) => ({
      do: 'move',
      who: dice.pick([...names(cast).clients, ...names(cast).exits]),
      router: drawRouter(dice),
    }),
  ],
  [1, (dice, cast) => ({ do: 'rebind', who: dice.pick([...names(cast).clients, ...names(cast).exits]) })],
  [1, (dice, cast) => ({ do: 'freeze', who: dice.pick(names(cast).all), lasts: away(dice) })],
  [1, (dice, cast) => ({ do: 'stall', who: dice.pick(names(cast).all), lasts: away(dice) })],
  [1, (dice, cast) => ({ do: 'unplug', who: dice.pick(names(cast).all), lasts: away(dice) })],
  [1, (dice, cast) => ({ do: 'no-internet', who: dice.pick(names(cast).exits), lasts: away(dice) })],
  [1, (dice, cast) => ({ do: 'no-udp', who: dice.pick(names(cast).clients), lasts: away(dice) })],
  [2, (dice, cast) => ({ do: 'vandal', who: dice.pick(names(cast).all), pick: dice.fraction() })],
  [2, weather],
  [1, clock],
  [1, shutOut],
  [1, (dice, cast) => ({ do: 'drain', who: dice.pick(names(cast).supernodes), lasts: dice.between(10_000, 60_000) })],
];

function cut(dice: Dice, cast: Cast): Deed {
  const { all } = names(cast);
  const who = dice.pick(all);
  const other = dice.pick(all.filter((one) => one !== who));
  return { do: 'cut', who, other, what: dice.pick(['all', 'control'] as const), lasts: away(dice) };
}

function weather(dice: Dice, cast: Cast): Deed {
  const { all } = names(cast);
  return {
    do: 'weather',
    who: dice.pick(all),
    loss: dice.oneIn(3) ? 0 : dice.fraction() * 0.3,
    doubled: dice.oneIn(2) ? 0 : dice.fraction() * 0.2,
    jitter: dice.oneIn(3) ? 0 : dice.between(5, 300),
    // Somebody who reads slowly: what is sent is taken seconds later.
    delay: dice.oneIn(3) ? dice.between(1_000, 8_000) : dice.below(150),
    lasts: away(dice),
  };
}

function clock(dice: Dice, cast: Cast): Deed {
  const by = dice.pick([-HOUR, HOUR, -minutes(7), minutes(7), dice.between(-HOUR, HOUR)]);
  return { do: 'clock', who: dice.pick(names(cast).all), by, lasts: away(dice) };
}

/** Not so many that nobody is left to serve a region. */
function shutOut(dice: Dice, cast: Cast): Deed {
  const { supernodes, exits, clients } = names(cast);
  const forGood = [...clients.slice(-1), ...exits.slice(2), ...supernodes.slice(3)];
  if (dice.oneIn(2)) return { do: 'shut-out', who: dice.pick(forGood), lasts: 'for good' };
  return { do: 'shut-out', who: dice.pick([...supernodes, ...exits, ...clients]), lasts: away(dice) };
}

const POT: readonly Draw[] = DEEDS.flatMap(([weight, draw]) => Array.from({ length: weight }, () => draw));

const anyDeed: Draw = (dice, cast) => dice.pick(POT)(dice, cast);
