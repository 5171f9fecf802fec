import { type Cidr, familyOf } from '../src/model/address.js';
import type { FilterTableSpec } from './filter.js';
import { renderArpTable, renderFilterTable } from './filter-text.js';

/** What an egress' table is made of besides its units. */
export interface EgressSurroundings {
  /** Networks that this machine is connected to. */
  readonly onLink: () => readonly Cidr[];
  /** Called before the counters go with the table that they are in, and what it answers after. */
  readonly replacing: () => Promise<() => void>;
}

/** The tables of one owner that are replaced as a whole. */
export const filterSpecs = (name: string, egress: EgressSurroundings): readonly FilterTableSpec[] => [
  {
    family: 'inet',
    name,
    concerns: () => true,
    render: (table, units, flags) => renderFilterTable(table, units, flags, egress.onLink()),
    optional: false,
    replacing: egress.replacing,
  },
  {
    family: 'arp',
    name,
    concerns: (unit) => unit.kind === 'full-tunnel' && unit.sources.some((ip) => familyOf(ip) === 4),
    render: (table, units, flags) =>
      renderArpTable(
        table,
        units.filter((unit) => unit.kind === 'full-tunnel'),
        flags,
      ),
    optional: true,
  },
];
