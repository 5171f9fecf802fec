import type { Chance } from './random.js';

/** How an input is changed: as what it is, where something is known of that. */
export type Shape = 'bytes' | 'protobuf' | 'text' | 'json';

/** Something that takes what others send. */
export interface Target {
  readonly name: string;
  readonly shape: Shape;
  /** Words of the format: names of fields, separators, values. */
  readonly words?: readonly string[];
  /** Inputs are cut to this. */
  readonly mostBytes?: number;
  /** What memory may grow over a run, in MiB, once the first tenth is through. */
  readonly mostGrowth?: number;
  open(seed: number): Promise<OpenTarget>;
}

export interface OpenTarget {
  /** A valid input, drawn anew each time: what mutations begin with besides the corpus. */
  make(chance: Chance): Uint8Array;
  /** Throws for anything that breaks a promise. A refusal is not that. */
  run(input: Uint8Array): void | Promise<void>;
  /** What must be given to `run` of a fresh one to see a failure again, where that is more than the last input. */
  history?(): Uint8Array;
  /** Looked at now and then, and at the end. Throws as `run` does. */
  check?(): void | Promise<void>;
  close?(): void | Promise<void>;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export const bytesOf = (text: string): Uint8Array => encoder.encode(text);
export const textOf = (input: Uint8Array): string => decoder.decode(input);
