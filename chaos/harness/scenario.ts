import type { Fleet, FleetOptions } from '../overlay/index.js';
import type { Story } from './story.js';

/** What a scenario does harm to, by the first letter of its name. */
export const GROUPS = {
  T: 'transport: streams and datagrams between nodes',
  S: 'supernodes',
  B: 'base',
  X: 'exits',
  C: 'clients and their networks',
  D: 'data plane: what the kernel holds, changed by somebody else',
  R: 'resources: disk, memory, descriptors, CPU',
  V: 'convergence: much at once',
} as const;
export type Group = keyof typeof GROUPS;

/** Who is there. The lab around it is the harness's business. */
export type Place = Omit<FleetOptions, 'lab' | 'tell'>;

/** Something that happens to an overlay, and what must hold all the same. */
export interface Scenario {
  /** Group and number: X3. Never given to another one. */
  readonly id: string;
  readonly title: string;
  /** In plain words, for the report. */
  readonly holds: string;
  /** `COMMON` unless given. */
  readonly place?: Place;
  /** Before any daemon is started. */
  prepared?(fleet: Fleet): Promise<void>;
  /** What happens and is looked at, in its order. What must hold of every scenario, the harness looks at afterwards. */
  story(story: Story): Promise<void>;
}

export const groupOf = ({ id }: Pick<Scenario, 'id'>): Group => {
  const [letter = ''] = id;
  if (!(letter in GROUPS)) throw new Error(`no group for scenario ${id}`);
  return letter as Group;
};

/**
 * Those whose names are asked for, separated by commas or blanks: X3 is one, X all of its group; all for nothing asked.
 * Throws for a name that fits none.
 */
export function select(scenarios: readonly Scenario[], asked: string): readonly Scenario[] {
  const wanted = asked.split(/[\s,]+/).filter((one) => one !== '');
  const fits = (one: string, { id }: Scenario) => (/\d$/.test(one) ? id === one : id.startsWith(one));
  for (const one of wanted) {
    if (!scenarios.some((scenario) => fits(one.toUpperCase(), scenario)))
      throw new Error(`no scenario is called ${one}`);
  }
  if (wanted.length === 0) return scenarios;
  return scenarios.filter((scenario) => wanted.some((one) => fits(one.toUpperCase(), scenario)));
}
