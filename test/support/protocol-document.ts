import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** docs/protocol.md as data: its tables and its named blocks. */
export interface ProtocolDocument {
  readonly text: string;
  /** Tables under each `#### Name`: the cells of every row, header left out. */
  readonly sections: ReadonlyMap<string, readonly (readonly string[])[]>;
  /** Rows of all tables by the name in backquotes in their first cell. */
  readonly rows: ReadonlyMap<string, readonly (readonly string[])[]>;
  /** Fenced blocks that have a name, comments and white space taken out. */
  readonly blocks: ReadonlyMap<string, string>;
  /** Lines `name = value` of the block `inputs`. */
  readonly inputs: ReadonlyMap<string, string>;
}

export function readProtocolDocument(): ProtocolDocument {
  const text = readFileSync(repositoryFile('docs/protocol.md'), 'utf8');
  const sections = new Map<string, (readonly string[])[]>();
  const rows = new Map<string, (readonly string[])[]>();
  const blocks = new Map<string, string>();
  const inputs = new Map<string, string>();
  let section: string | undefined;
  let block: string | undefined;
  for (const line of text.split('\n')) {
    const fence = /^```(\w*) ?([\w-]*)$/.exec(line);
    if (fence !== null) {
      block = block === undefined ? fence[2] : undefined;
      if (block) blocks.set(block, '');
      continue;
    }
    if (block !== undefined) {
      const bare = line.replace(/#.*$/, '');
      const input = /^(\w+) = (.*?)\s*$/.exec(bare);
      if (block === 'inputs' && input !== null) inputs.set(input[1] as string, input[2] as string);
      if (block) blocks.set(block, (blocks.get(block) ?? '') + bare.replace(/\s+/g, ''));
      continue;
    }
    const heading = /^(#+) (.*)$/.exec(line);
    if (heading !== null) {
      section = heading[1] === '####' ? (heading[2] as string) : undefined;
      if (section !== undefined) sections.set(section, []);
      continue;
    }
    const cells = cellsOf(line);
    if (cells === undefined) continue;
    if (section !== undefined) sections.get(section)?.push(cells);
    const name = unquoted(cells[0] ?? '');
    rows.set(name, [...(rows.get(name) ?? []), cells]);
  }
  return { text, sections, rows, blocks, inputs };
}

/** The cells of a table's row that names something in its first cell; undefined for any other line. */
function cellsOf(line: string): readonly string[] | undefined {
  if (!/^\| `[^`]+`/.test(line)) return undefined;
  return line
    .slice(1, line.lastIndexOf('|'))
    .split('|')
    .map((cell) => cell.trim());
}

export const unquoted = (cell: string): string => cell.replaceAll('`', '');

/** A file of the repository, whether this runs from dist/ or from somewhere else in or below it. */
function repositoryFile(path: string): string {
  for (const start of [dirname(fileURLToPath(import.meta.url)), process.cwd()]) {
    for (let folder = start; ; folder = dirname(folder)) {
      try {
        readFileSync(join(folder, path));
        return join(folder, path);
      } catch {
        if (dirname(folder) === folder) break;
      }
    }
  }
  throw new Error(`${path} is nowhere above ${process.cwd()}`);
}
