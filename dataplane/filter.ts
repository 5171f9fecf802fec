import type { Log } from '../src/core/ports/log.js';
import { unitIdOf } from '../src/model/dataplane.js';
import { toVpndError } from '../src/model/errors.js';
import type { FilterUnit } from './filter-text.js';
import { canonicalStructure, listTable, type NftFamily, runNft } from './nft.js';
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
}

/** What was written last; `unknown` until the kernel has been asked. */
type Believed =
  | { readonly kind: 'unknown' }
  | { readonly kind: 'absent' }
  | { readonly kind: 'text'; readonly text: string };

/**
 * A table without sessions in it: replaced as a whole, in one transaction, when its text changes. Connections that are
 * open keep their translation, which lives in conntrack.
 */
export class FilterTable {
  #believed: Believed = { kind: 'unknown' };
  readonly #canonical = new Map<string, string>();
  #unsupported = false;

  constructor(
    private readonly runner: Runner,
    private readonly spec: FilterTableSpec,
    private readonly log: Log,
  ) {}

  /** Ask the kernel once, so that a first `apply` with nothing to say costs nothing. */
  async prime(): Promise<void> {
    const table = await listTable(this.runner, this.spec.family, this.spec.name);
    this.#believed = table === undefined ? { kind: 'absent' } : { kind: 'unknown' };
  }

  async apply(units: readonly FilterUnit[]): Promise<void> {
    if (this.#unsupported) return;
    const text = this.#text(units);
    if (this.#believed.kind === (text === undefined ? 'absent' : 'text')) {
      if (this.#believed.kind === 'absent' || (this.#believed.kind === 'text' && this.#believed.text === text)) return;
    }
    const { family, name } = this.spec;
    this.#believed = { kind: 'unknown' };
    try {
      await runNft(this.runner, `table ${family} ${name} {}\ndelete table ${family} ${name}\n${text ?? ''}`);
    } catch (thrown) {
      if (!this.spec.optional) throw thrown;
      this.#unsupported = true;
      this.log.warn(`this kernel has no ${family} tables; going without one`, { err: toVpndError(thrown) });
      return;
    }
    this.#believed = text === undefined ? { kind: 'absent' } : { kind: 'text', text };
  }

  /** Compare what the kernel has with what these units mean, rule by rule, and replace it where they differ. */
  async reconcile(units: readonly FilterUnit[], repairs: Repairs): Promise<void> {
    if (this.#unsupported) return;
    const { family, name } = this.spec;
    const table = await listTable(this.runner, family, name);
    const text = this.#text(units);
    if (text === undefined) {
      if (table !== undefined) repairs.removed.push(`table ${family} ${name}`);
      this.#believed = table === undefined ? { kind: 'absent' } : { kind: 'unknown' };
    } else if (table !== undefined && table.structure === (await this.#canonicalOf(units, text))) {
      this.#believed = { kind: 'text', text };
    } else {
      for (const unit of this.#concerned(units)) repairs.repaired.add(unitIdOf(unit));
      this.#believed = { kind: 'unknown' };
    }
    await this.apply(units);
  }

  async inventory(): Promise<readonly string[]> {
    const { family, name } = this.spec;
    const table = await listTable(this.runner, family, name);
    if (table === undefined) return [];
    const rules = table.structure.split('\n').filter((line) => line.startsWith('["rule"')).length;
    return [`table ${family} ${name}: ${rules} rules`];
  }

  #concerned(units: readonly FilterUnit[]): readonly FilterUnit[] {
    return units.filter(this.spec.concerns).sort((a, b) => (unitIdOf(a) < unitIdOf(b) ? -1 : 1));
  }

  #text(units: readonly FilterUnit[]): string | undefined {
    const own = this.#concerned(units);
    return own.length === 0 ? undefined : this.spec.render(this.spec.name, own);
  }

  async #canonicalOf(units: readonly FilterUnit[], text: string): Promise<string> {
    const known = this.#canonical.get(text);
    if (known !== undefined) return known;
    const own = this.#concerned(units);
    const structure = await canonicalStructure(this.runner, this.spec.family, (name, flags) =>
      this.spec.render(name, own, flags),
    );
    // Only the present text is of use again.
    this.#canonical.clear();
    this.#canonical.set(text, structure);
    return structure;
  }
}
