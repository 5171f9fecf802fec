/** A mistake made on purpose, and the test that has to notice it. */
export interface Mutant {
  /** Begins with its class, `06-…` or `port-shadow-…`; what `MUTANT=` takes. */
  readonly name: string;
  /** The class in `classes.ts`. */
  readonly class: ClassId;
  /** What is wrong with the code now, in a line. */
  readonly mistake: string;
  readonly edits: readonly Edit[];
  readonly caughtBy: CaughtBy;
}

export type ClassId = number | Attack;
export const ATTACKS = [
  'port-shadow',
  'tunnelvision',
  'tunnelcrack',
  'open-reflector',
  'tunnel-injection',
  'exit-lan',
] as const;
export type Attack = (typeof ATTACKS)[number];

/** In a file of the repository, a text that stands there exactly once, and what takes its place. */
export interface Edit {
  readonly file: string;
  readonly find: string;
  readonly put: string;
}

export interface CaughtBy {
  /** The test's source. One in test/host, or `….host.ts`, needs root. */
  readonly file: string;
  /** The names of the test and of the tests inside it that lead to the one meant; all of the file unless given. */
  readonly test?: readonly string[];
}

export const needsRoot = ({ file }: CaughtBy): boolean => file.startsWith('test/host/') || /\.host\.ts$/.test(file);

/** A file's text with the edits made. Throws where one fits no more, or in more than one place. */
export function edited(file: string, text: string, edits: readonly Edit[]): string {
  return edits.reduce((before, { find, put }) => {
    const [head, tail, more] = before.split(find);
    if (head === undefined || tail === undefined) throw new Error(`${file} does not hold: ${find}`);
    if (more !== undefined) throw new Error(`${file} holds more than once: ${find}`);
    return `${head}${put}${tail}`;
  }, text);
}

/** The edits by file. */
export function editsByFile({ edits }: Pick<Mutant, 'edits'>): ReadonlyMap<string, readonly Edit[]> {
  const files = new Map<string, Edit[]>();
  for (const edit of edits) files.set(edit.file, [...(files.get(edit.file) ?? []), edit]);
  return files;
}
