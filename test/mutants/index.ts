import { MACHINE } from './machine.js';
import { MEMBERS } from './members.js';
import type { Mutant } from './mutant.js';
import { NETWORK } from './network.js';
import { SECRETS } from './secrets.js';
import { STREAMS } from './streams.js';

const order = ({ class: id }: Mutant): number => (typeof id === 'number' ? id : 100);

/** All of them, in the order of the table in docs/security.md. */
export const MUTANTS: readonly Mutant[] = [...SECRETS, ...MEMBERS, ...MACHINE, ...STREAMS, ...NETWORK].sort(
  (a, b) => order(a) - order(b),
);
