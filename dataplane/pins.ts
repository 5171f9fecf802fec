import { type PinObservation, unitIdOf } from '../src/model/dataplane.js';
import { canonicalStructure, listCounters, listStructure, listTables, runNft } from './nft.js';
import { FROM_COUNTER, type Pin, pinTableName, renderPinTable, TO_COUNTER } from './pins-text.js';
import type { Repairs } from './relay.js';
import type { Runner } from './run.js';

/** The pins of one owner: an nft table for each, written when it is put or changed and left alone otherwise. */
export class PinTables {
  /** Text by table name, as written last; undefined while the kernel has not been asked. */
  #believed: ReadonlyMap<string, string | undefined> = new Map();
  #pins: readonly Pin[] = [];
  /** How the kernel writes down what is to be there, by our own text. */
  #canonical: ReadonlyMap<string, string> = new Map();
  readonly #prefix: string;

  constructor(
    private readonly runner: Runner,
    private readonly owner: string,
  ) {
    this.#prefix = pinTableName(owner, 0).slice(0, -1);
  }

  /** Ask the kernel once, so that a first `apply` knows what is there. */
  async prime(): Promise<void> {
    this.#believed = new Map((await this.#list()).map((name) => [name, undefined]));
  }

  /** Whether these are others than those in place, so that `apply` would write. */
  differ(pins: readonly Pin[]): boolean {
    return this.#script(pins) !== '';
  }

  async apply(pins: readonly Pin[]): Promise<void> {
    const script = this.#script(pins);
    if (script !== '') await runNft(this.runner, script);
    this.#pins = pins;
    this.#believed = this.#texts(pins);
  }

  async reconcile(pins: readonly Pin[], repairs: Repairs): Promise<void> {
    const present = await this.#list();
    const wanted = this.#texts(pins);
    this.#canonical = new Map([...this.#canonical].filter(([text]) => [...wanted.values()].includes(text)));
    const believed = new Map<string, string | undefined>();
    for (const name of present) {
      if (!wanted.has(name)) repairs.removed.push(`table inet ${name}`);
      believed.set(name, undefined);
    }
    for (const pin of pins) {
      const name = this.#nameOf(pin);
      if (present.includes(name) && (await this.#isRight(name, pin))) believed.set(name, wanted.get(name));
      else repairs.repaired.add(unitIdOf(pin.unit));
    }
    this.#believed = believed;
    await this.apply(pins);
  }

  async observe(): Promise<readonly PinObservation[]> {
    const lists = this.#pins.map(async (pin) => {
      const counters = await listCounters(this.runner, 'inet', this.#nameOf(pin));
      if (counters === undefined) return [];
      const { device } = pin.unit;
      const fromPackets = counters.get(FROM_COUNTER) ?? 0;
      return [{ device, fromPackets, toPackets: counters.get(TO_COUNTER) ?? 0 }];
    });
    return (await Promise.all(lists)).flat();
  }

  async inventory(): Promise<readonly string[]> {
    return (await this.#list()).map((name) => `table inet ${name}: a pin`);
  }

  #nameOf(pin: Pin): string {
    return pinTableName(this.owner, pin.unit.table);
  }

  #texts(pins: readonly Pin[]): ReadonlyMap<string, string> {
    return new Map(pins.map((pin) => [this.#nameOf(pin), renderPinTable(this.#nameOf(pin), pin)]));
  }

  #script(pins: readonly Pin[]): string {
    const wanted = this.#texts(pins);
    const lines: string[] = [];
    for (const name of this.#believed.keys()) {
      // Works whether or not somebody else has removed it.
      if (this.#believed.get(name) === undefined || this.#believed.get(name) !== wanted.get(name))
        lines.push(`table inet ${name} {}\ndelete table inet ${name}\n`);
    }
    for (const [name, text] of wanted) if (this.#believed.get(name) !== text) lines.push(text);
    return lines.join('');
  }

  async #isRight(name: string, pin: Pin): Promise<boolean> {
    const present = await listStructure(this.runner, 'inet', name);
    const text = renderPinTable(name, pin);
    const canonical =
      this.#canonical.get(text) ??
      (await canonicalStructure(this.runner, 'inet', (scratch, flags) => renderPinTable(scratch, pin, flags)));
    this.#canonical = new Map([...this.#canonical, [text, canonical]]);
    return present === canonical;
  }

  async #list(): Promise<readonly string[]> {
    return (await listTables(this.runner, 'inet')).filter(
      (name) => name.startsWith(this.#prefix) && /^\d+$/.test(name.slice(this.#prefix.length)),
    );
  }
}
