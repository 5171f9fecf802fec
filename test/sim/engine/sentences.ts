import type { Deed, Step, Story } from './story.js';

const time = (ms: number): string =>
  ms >= 120_000 ? `${(ms / 60_000).toFixed(1)} min` : `${(ms / 1000).toFixed(1)} s`;
const percent = (part: number): string => `${Math.round(part * 100)} %`;
const NTH = ['first', 'second', 'third', 'fourth'];
const nth = (n: number): string => NTH[n - 1] ?? `${n}th`;

/** What happens, as one would tell it. */
export function sentence(deed: Deed): string {
  const { who } = deed;
  switch (deed.do) {
    case 'up':
      return `the user of ${who} asks for a tunnel${deed.region === undefined ? '' : ` to ${deed.region}`}`;
    case 'down':
      return `the user of ${who} wants no tunnel any more`;
    case 'rotate':
      return `the user of ${who} asks for another exit`;
    case 'path':
      return `the user of ${who} asks for the path: ${deed.path}`;
    case 'rebind':
      return `the router of ${who} starts anew and knows no mapping`;
    case 'restart':
      return `the daemon of ${who} is stopped in order and started again`;
    case 'crash':
      return `the daemon of ${who} dies, and is started again after ${time(deed.lasts)}`;
    case 'power-off':
      return `${who} loses its power for ${time(deed.lasts)}`;
    case 'freeze':
      return `${who} hangs as a whole for ${time(deed.lasts)}, its connections half-open`;
    case 'stall':
      return `the daemon of ${who} stands still for ${time(deed.lasts)} while its kernel goes on`;
    case 'unplug':
      return `${who} is on no network for ${time(deed.lasts)}`;
    case 'no-internet':
      return `${who} reaches nothing but its supernode for ${time(deed.lasts)}`;
    case 'no-udp':
      return `the network of ${who} lets no UDP through for ${time(deed.lasts)}`;
    case 'drain':
      return `supernode ${who} is drained, and started again after ${time(deed.lasts)}`;
    case 'die': {
      const what = { write: 'write to its disk', kernel: 'change of its kernel', message: 'message' }[deed.at];
      const how = deed.power ? `${who} loses its power` : `the daemon of ${who} dies`;
      return `${how} ${deed.when} its ${nth(deed.nth)} ${what} from now on, and is back ${time(deed.lasts)} later`;
    }
    case 'reset':
      return `connections between ${who} and ${deed.other} are reset`;
    case 'cut':
      return `${deed.what === 'all' ? 'nothing passes' : 'no stream and no call pass'} between ${who} and ${deed.other} for ${time(deed.lasts)}`;
    case 'kernel': {
      const how = { fails: 'fail', lies: 'are made and reported as failed', hangs: 'hang and fail' }[deed.how];
      return `the next ${deed.times} changes of ${who}'s kernel ${how}`;
    }
    case 'disk':
      return `the disk of ${who} is ${deed.how} for ${time(deed.lasts)}`;
    case 'move':
      return `${who} is carried to another network (${deed.router === 'none' ? 'a public address' : `${deed.router.mapping} mapping, ${deed.router.filtering} filtering`})`;
    case 'vandal':
      return `somebody removes a thing of vpnd's from the kernel of ${who}`;
    case 'weather':
      return `for ${time(deed.lasts)} the line of ${who} loses ${percent(deed.loss)}, doubles ${percent(deed.doubled)}, and is late by ${deed.delay} to ${deed.delay + deed.jitter} ms`;
    case 'clock':
      return `the clock of ${who} is set ${deed.by > 0 ? 'ahead' : 'back'} by ${time(Math.abs(deed.by))}, and set right after ${time(deed.lasts)}`;
    case 'shut-out':
      return `base shuts ${who} out ${deed.lasts === 'for good' ? 'for good' : `for ${time(deed.lasts)}`}`;
  }
}

export const tell = (steps: readonly Step[]): readonly string[] =>
  steps.map(({ deed, wait }) => `${sentence(deed)}; ${time(wait)} pass`);

/** Who is where. */
export function introduce({ cast, kind }: Story): string {
  const supernodes = cast.supernodes.map(
    ({ region, egress }, i) => `${String.fromCharCode(97 + i)} in ${region}${egress ? ' with egress' : ''}`,
  );
  const exits = cast.exits.map(({ region, router, home }, i) => `x${i} in ${region} ${at(router, home)}`);
  const clients = cast.clients.map(
    ({ region, router, home, standby, privacy }, i) =>
      `c${i} in ${region} ${at(router, home)}${standby ? ', with a standby' : ''}${privacy === 'private' ? ', over two relays' : ''}`,
  );
  return [
    `supernodes ${supernodes.join(', ')}`,
    `exits ${exits.join('; ')}`,
    `clients ${clients.join('; ')}`,
    `kind: ${kind}`,
  ].join('\n');
}

const at = (router: Story['cast']['exits'][number]['router'], home: string | undefined): string =>
  router === 'none'
    ? 'with a public address'
    : `behind ${home === undefined ? 'a router' : 'the shared router'} (${router.mapping} mapping, ${router.filtering} filtering, ${router.life / 1000} s${router.hairpins ? ', hairpins' : ''})`;
