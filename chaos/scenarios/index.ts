import type { Scenario } from '../harness/scenario.js';
import { BASE } from './base.js';
import { CLIENTS } from './clients.js';
import { CONVERGENCE } from './convergence.js';
import { DATAPLANE } from './dataplane.js';
import { EXITS } from './exits.js';
import { RESOURCES } from './resources.js';
import { SUPERNODES } from './supernodes.js';
import { TRANSPORT } from './transport.js';

/** All there are, in the order in which they are played. */
export const SCENARIOS: readonly Scenario[] = [
  ...TRANSPORT,
  ...SUPERNODES,
  ...BASE,
  ...EXITS,
  ...CLIENTS,
  ...DATAPLANE,
  ...RESOURCES,
  ...CONVERGENCE,
];
