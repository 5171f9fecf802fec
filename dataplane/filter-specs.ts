import { familyOf } from '../src/model/address.js';
import type { FilterTableSpec } from './filter.js';
import { renderArpTable, renderFilterTable } from './filter-text.js';

/** The tables of one owner that are replaced as a whole. */
export const filterSpecs = (name: string): readonly FilterTableSpec[] => [
  { family: 'inet', name, concerns: () => true, render: renderFilterTable, optional: false },
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
