import type { Log } from '../src/core/ports/log.js';
import { unitIdOf } from '../src/model/dataplane.js';
import { toVpndError } from '../src/model/errors.js';
import type { FilterUnit } from './filter-text.js';
import { canonicalStructure, listStructure, type NftFamily, runNft } from './nft.js';
import type { Repairs } from './relay.js';
import type { Runner } from './run.js';

/** Which table, which of the units concern it, and its text. */
export interface FilterTableSpec {
  readonly family: NftFamily;
  readonly name: string;
  readonly concerns: (unit: FilterUnit) => boolean;
  readonly render: (name: string, units: readonly FilterUnit[], flags?: string) => string;
  /** Do without it on a kernel that has no such tables. */
  readonly optional: boolean;
  /** Called before a table that is there is replaced, and what it answers after. */
  readonly replacing?: () => Promise<() => void>;
}

/** What was written last; `unknown` until the kernel has been asked. */
type Believed =
  | { readonly kind: 'unknown' }
  | { readonly kind: 'absent' }
  | { readonly kind: 'text'; readonly text: string; readonly units: readonly FilterUnit[] };

interface Table {
  readonly spec: FilterTableSpec;
  believed: Believed;
  unsupported: boolean;
  /** How the kernel writes a text of ours down; only the present text is of use again. */
  canonical: { readonly text: string; readonly structure: string } | undefined;
}

/**
 * The tables without sessions in them: each is replaced as a whole when its text changes, all of them in one
 * transaction. Connections that are open keep their translation, which lives in conntrack.
 */
export class FilterTables {
  readonly #tables: readonly Table[];

  constructor(
    private readonly runner: Runner,
    specs: readonly FilterTableSpec[],
    private readonly log: Log,
  ) {
    this.#tables = specs.map((spec) => ({
      spec,
      believed: { kind: 'unknown' },
      unsupported: false,
      canonical: undefined,
    }));
  }

  /** Ask the kernel once, so that a first `apply` knows what is absent. */
  async prime(): Promise<void> {
    for (const table of this.#tables) {
      const { family, name } = table.spec;
      const present = await listStructure(this.runner, family, name);
      table.believed = present === undefined ? { kind: 'absent' } : { kind: 'unknown' };
    }
  }

  async apply(units: readonly FilterUnit[]): Promise<void> {
    const stale = this.#tables.filter((table) => !table.unsupported && !isWritten(table, textOf(table, units)));
    if (stale.length === 0) return;
    const needed = stale.filter((table) => !table.spec.optional);
    try {
      await this.#write(stale, units);
    } catch (thrown) {
      if (needed.length === stale.length) throw thrown;
      if (needed.length > 0) await this.#write(needed, units);
      for (const table of stale) table.unsupported ||= table.spec.optional;
      this.log.warn('this kernel refuses tables that vpnd can do without', { err: toVpndError(thrown) });
    }
  }

  /** Compare what the kernel has with what these units mean, rule by rule, and replace it where they differ. */
  async reconcile(units: readonly FilterUnit[], repairs: Repairs): Promise<void> {
    for (const table of this.#tables) if (!table.unsupported) await this.#compare(table, units, repairs);
    await this.apply(units);
  }

  async inventory(): Promise<readonly string[]> {
    const lines: string[] = [];
    for (const { spec } of this.#tables) {
      const present = await listStructure(this.runner, spec.family, spec.name);
      if (present === undefined) continue;
      const rules = present.split('\n').filter((line) => !/^(chain|type|\})/.test(line));
      lines.push(`table ${spec.family} ${spec.name}: ${rules.length} rules`);
    }
    return lines;
  }

  async #compare(table: Table, units: readonly FilterUnit[], repairs: Repairs): Promise<void> {
    const { family, name } = table.spec;
    const present = await listStructure(this.runner, family, name);
    const wanted = concerned(table, units);
    const before = table.believed.kind === 'text' ? table.believed.units : undefined;
    table.believed = present === undefined ? { kind: 'absent' } : { kind: 'unknown' };
    if (wanted.length === 0) {
      if (present !== undefined) repairs.removed.push(`table ${family} ${name}`);
      return;
    }
    if (present !== undefined && present === (await this.#canonical(table, wanted))) {
      table.believed = believedText(table, wanted);
      return;
    }
    // Where the table is as it was left, only the units that are new to it were missing.
    const left = before !== undefined && present === (await this.#canonical(table, before)) ? before : [];
    const known = new Map(left.map((unit) => [unitIdOf(unit), JSON.stringify(unit)]));
    for (const unit of wanted) {
      if (known.get(unitIdOf(unit)) !== JSON.stringify(unit)) repairs.repaired.add(unitIdOf(unit));
      known.delete(unitIdOf(unit));
    }
    for (const id of known.keys()) repairs.removed.push(`${id} in table ${family} ${name}`);
  }

  async #write(tables: readonly Table[], units: readonly FilterUnit[]): Promise<void> {
    const script = tables.map((table) => {
      const { family, name } = table.spec;
      // Waiting for a deletion is what takes long; where there is nothing to delete, it is left out.
      const drop = `table ${family} ${name} {}\ndelete table ${family} ${name}\n`;
      return `${table.believed.kind === 'absent' ? '' : drop}${textOf(table, units) ?? ''}`;
    });
    const there = tables.filter((table) => table.believed.kind !== 'absent');
    const replaced = await Promise.all(there.map((table) => table.spec.replacing?.()));
    await runNft(this.runner, script.join(''));
    for (const done of replaced) done?.();
    for (const table of tables) table.believed = believedText(table, concerned(table, units));
  }

  async #canonical(table: Table, own: readonly FilterUnit[]): Promise<string> {
    const text = table.spec.render(table.spec.name, own);
    if (table.canonical?.text === text) return table.canonical.structure;
    const structure = await canonicalStructure(this.runner, table.spec.family, (name, flags) =>
      table.spec.render(name, own, flags),
    );
    table.canonical = { text, structure };
    return structure;
  }
}

function believedText(table: Table, own: readonly FilterUnit[]): Believed {
  if (own.length === 0) return { kind: 'absent' };
  return { kind: 'text', text: table.spec.render(table.spec.name, own), units: own };
}

function concerned(table: Table, units: readonly FilterUnit[]): readonly FilterUnit[] {
  return units.filter(table.spec.concerns).sort((a, b) => (unitIdOf(a) < unitIdOf(b) ? -1 : 1));
}

/** Undefined where no unit concerns the table: then there is none. */
function textOf(table: Table, units: readonly FilterUnit[]): string | undefined {
  const own = concerned(table, units);
  return own.length === 0 ? undefined : table.spec.render(table.spec.name, own);
}

function isWritten(table: Table, text: string | undefined): boolean {
  if (table.believed.kind === 'text') return table.believed.text === text;
  return table.believed.kind === 'absent' && text === undefined;
}
