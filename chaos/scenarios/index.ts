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

/** Those that `make chaos-kernel` plays over kernel WireGuard, with delay and loss on clients' lines. */
export const KERNEL: readonly string[] = ['X1', 'X2', 'X8', 'S1', 'S5', 'C1', 'C3', 'C4', 'D1', 'D6'];
