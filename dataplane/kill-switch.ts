import { KILL_SWITCH, type KillSwitchUnit } from '../src/model/dataplane.js';
import { VpndError } from '../src/model/errors.js';
import {
  KILL_SWITCH_SETS,
  type KillSwitchElements,
  killSwitchElements,
  renderKillSwitch,
  renderKillSwitchChange,
} from './kill-switch-text.js';
import { canonicalStructure, listElements, listStructure, type NftElements, runNft } from './nft.js';
import type { Repairs } from './relay.js';
import type { Runner } from './run.js';

export const killSwitchTable = (owner: string): string => `${owner}_kill_switch`;

interface Wanted {
  /** Rules without elements: what they are told apart by. */
  readonly rules: string;
  readonly elements: KillSwitchElements;
}

type Believed = { readonly kind: 'unknown' } | { readonly kind: 'absent' } | ({ readonly kind: 'there' } & Wanted);

/**
 * The kill switch of one owner. Its rules stay as they are for as long as its settings do; endpoints come and go as
 * elements, so that there is no moment without it and a session costs one short transaction.
 */
export class KillSwitch {
  readonly #name: string;
  #believed: Believed = { kind: 'unknown' };
  #canonical: { readonly rules: string; readonly structure: string } | undefined;

  constructor(
    private readonly runner: Runner,
    owner: string,
    /** User whose own streams may leave. */
    private readonly uid = process.geteuid?.() ?? 0,
  ) {
    this.#name = killSwitchTable(owner);
  }

  /** Ask the kernel once, so that a first `apply` need not. */
  async prime(): Promise<void> {
    const there = await listStructure(this.runner, 'inet', this.#name);
    this.#believed = { kind: there === undefined ? 'absent' : 'unknown' };
  }

  /** The whole of it as text for `nft -f`, to be put in force without this program; replaces whatever is there. */
  textOf(unit: KillSwitchUnit): string {
    return `${dropTable(this.#name)}${renderKillSwitch(this.#name, this.#rulesOf(unit), killSwitchElements(unit))}`;
  }

  async apply(unit: KillSwitchUnit | undefined): Promise<void> {
    if (unit === undefined) {
      if (this.#believed.kind === 'absent') return;
      this.#believed = { kind: 'unknown' };
      await runNft(this.runner, dropTable(this.#name));
      this.#believed = { kind: 'absent' };
      return;
    }
    const believed = this.#believed;
    const wanted = this.#wanted(unit);
    if (believed.kind !== 'there' || believed.rules !== wanted.rules) return await this.#write(unit, wanted);
    const change = renderKillSwitchChange(this.#name, believed.elements, wanted.elements);
    if (change === '') return;
    try {
      this.#believed = { kind: 'unknown' };
      await runNft(this.runner, change);
      this.#believed = { kind: 'there', ...wanted };
    } catch (thrown) {
      if (!(thrown instanceof VpndError) || thrown.code !== 'dataplane') throw thrown;
      // It is not as it was left: all of it anew.
      await this.#write(unit, wanted);
    }
  }

  async reconcile(unit: KillSwitchUnit | undefined, repairs: Repairs): Promise<void> {
    const structure = await listStructure(this.runner, 'inet', this.#name);
    if (unit === undefined) {
      if (structure !== undefined) repairs.removed.push(`table inet ${this.#name}`);
      this.#believed = { kind: structure === undefined ? 'absent' : 'unknown' };
    } else {
      const wanted = this.#wanted(unit);
      const isRight = structure !== undefined && structure === (await this.#structureOf(unit, wanted));
      const listed = isRight ? await listElements(this.runner, 'inet', this.#name) : undefined;
      if (listed === undefined) {
        this.#believed = { kind: structure === undefined ? 'absent' : 'unknown' };
        repairs.repaired.add(KILL_SWITCH);
      } else {
        const elements = elementsOf(listed);
        this.#believed = { kind: 'there', rules: wanted.rules, elements };
        if (renderKillSwitchChange(this.#name, elements, wanted.elements) !== '') repairs.repaired.add(KILL_SWITCH);
      }
    }
    await this.apply(unit);
  }

  async inventory(): Promise<readonly string[]> {
    const there = await listStructure(this.runner, 'inet', this.#name);
    return there === undefined ? [] : [`table inet ${this.#name}: nothing leaves but by tunnels`];
  }

  async #write(unit: KillSwitchUnit, wanted: Wanted): Promise<void> {
    const isAbsent = this.#believed.kind === 'absent';
    this.#believed = { kind: 'unknown' };
    // Waiting for a deletion is what takes long; where there is nothing to delete, it is left out.
    const rules = this.#rulesOf(unit);
    const text = isAbsent ? renderKillSwitch(this.#name, rules, wanted.elements) : this.textOf(unit);
    await runNft(this.runner, text);
    this.#believed = { kind: 'there', ...wanted };
  }

  #wanted(unit: KillSwitchUnit): Wanted {
    return { rules: renderKillSwitch(this.#name, this.#rulesOf(unit)), elements: killSwitchElements(unit) };
  }

  #rulesOf({ devices, lan, exclude }: KillSwitchUnit) {
    return { devices, lan, exclude, uid: this.uid };
  }

  async #structureOf(unit: KillSwitchUnit, { rules }: Wanted): Promise<string> {
    if (this.#canonical?.rules !== rules) {
      const structure = await canonicalStructure(this.runner, 'inet', (name, flags) =>
        renderKillSwitch(name, this.#rulesOf(unit), undefined, flags),
      );
      this.#canonical = { rules, structure };
    }
    return this.#canonical.structure;
  }
}

/** In one transaction with what comes in its place: there is no moment without either. */
const dropTable = (name: string): string => `table inet ${name} {}\ndelete table inet ${name}\n`;

const elementsOf = (table: NftElements): KillSwitchElements =>
  new Map(KILL_SWITCH_SETS.map((set) => [set, new Set(table.get(set)?.keys() ?? [])]));
