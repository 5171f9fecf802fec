import { concat } from './mutate-bytes.js';
import { type Field, read, write } from './mutate-protobuf.js';

/** Something that somebody sends to a node. */
export interface Step {
  /** Who to whom: the target says what the numbers mean. */
  readonly whom: number;
  /** The bytes of a message. */
  readonly message: Uint8Array;
  /** Which names in it are put in the place of ones that mean something at the moment, a bit each. */
  readonly live: number;
  /** How much time passes then; the target says in which unit. */
  readonly wait: number;
}

/**
 * Inputs of targets with a state: steps, each a field of a protobuf message, so that the mutator sees through to the
 * messages' own fields, and changes, doubles and exchanges steps as it does fields.
 */
export function writeScript(steps: readonly Step[]): Uint8Array {
  const plain = (number: number, value: number): Field => ({
    ...EMPTY,
    number,
    wire: 0,
    value: Uint8Array.of(value & 127),
  });
  return write(
    steps.map(({ whom, message, live, wait }) => ({
      ...EMPTY,
      number: 1,
      inner: [plain(1, whom), { ...EMPTY, number: 2, value: message }, plain(3, live), plain(4, wait)],
    })),
  );
}

const EMPTY: Field = { number: 1, wire: 2, value: new Uint8Array(), inner: undefined, lie: undefined };

/** Anything is a script: what is no field of one is a message as it is. */
export function readScript(input: Uint8Array, most: number): readonly Step[] {
  const fields = read(input);
  if (fields === undefined) return [{ whom: input[0] ?? 0, message: input.subarray(1), live: 0, wait: 0 }];
  return fields.slice(0, most).map((field) => {
    const inner = field.inner ?? [];
    const number = (which: number): number =>
      inner.find((one) => one.number === which && one.wire === 0)?.value[0] ?? 0;
    const content = inner.find((one) => one.number === 2 && one.wire === 2);
    const message =
      content === undefined ? field.value : content.inner === undefined ? content.value : write(content.inner);
    return { whom: number(1), message, live: number(3), wait: number(4) };
  });
}

export const joined = (scripts: readonly Uint8Array[]): Uint8Array => concat(...scripts);
