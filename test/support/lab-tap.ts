/** Reading what a tap program prints (TAP 14), as far as a runner needs it. */

export interface Totals {
  readonly total: number;
  readonly pass: number;
  readonly fail: number;
  readonly skip: number;
  readonly todo: number;
}

/** The counts in tap's closing comment, `# { total: 3, pass: 2, fail: 1 }`; none when the program broke before it. */
export function totalsOf(tap: string): Totals | undefined {
  const closing = [...tap.matchAll(/^# \{ (total: \d+.*) \}$/gm)].at(-1)?.[1];
  if (closing === undefined) return undefined;
  const count = (what: keyof Totals) => Number(new RegExp(`\\b${what}: (\\d+)`).exec(closing)?.[1] ?? 0);
  return { total: count('total'), pass: count('pass'), fail: count('fail'), skip: count('skip'), todo: count('todo') };
}

/**
 * The lines that tell of failures: every failed assertion with its explanation, under the names of the tests around
 * it. All of it when there is no such line, since then the program broke in another way.
 */
export function failuresIn(tap: string): string {
  const told: string[] = [];
  const around: { indent: number; line: string }[] = [];
  let telling: number | undefined;
  for (const line of tap.split('\n')) {
    const indent = line.length - line.trimStart().length;
    if (telling !== undefined && (line.trim() === '' || indent > telling)) {
      if (line.trim() !== '') told.push(line);
      continue;
    }
    telling = undefined;
    if (/^\s*# Subtest: /.test(line)) {
      while ((around.at(-1)?.indent ?? -1) >= indent) around.pop();
      around.push({ indent, line });
    } else if (/^\s*not ok \d+/.test(line)) {
      told.push(...around.splice(0).map((subtest) => subtest.line), line);
      telling = indent;
    }
  }
  return told.length > 0 ? told.join('\n') : tap.trimEnd();
}
