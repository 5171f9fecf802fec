/** What one check found. `todo` says what a person can do about it; empty where `text` says it already. */
export type Verdict =
  | { readonly result: 'ok'; readonly text: string }
  | { readonly result: 'fail'; readonly text: string; readonly todo: string }
  | { readonly result: 'skip'; readonly text: string };

export interface Check {
  readonly name: string;
  run(): Promise<Verdict>;
}

export const ok = (text: string): Verdict => ({ result: 'ok', text });
export const fail = (text: string, todo: string): Verdict => ({ result: 'fail', text, todo });
export const skip = (text: string): Verdict => ({ result: 'skip', text });

export interface Finding {
  readonly name: string;
  readonly verdict: Verdict;
}

/** Runs checks in order; one that throws has failed, and the others still run. */
export async function runChecks(checks: readonly Check[], found: (finding: Finding) => void): Promise<boolean> {
  let healthy = true;
  for (const check of checks) {
    const verdict = await check
      .run()
      .catch((thrown): Verdict => fail(thrown instanceof Error ? thrown.message : String(thrown), 'this is a bug'));
    if (verdict.result === 'fail') healthy = false;
    found({ name: check.name, verdict });
  }
  return healthy;
}

const WORDS = { ok: 'ok  ', fail: 'FAIL', skip: 'skip' } as const;

/** `ok   tls: …` or `FAIL tls: …: what to do`. */
export function findingLine({ name, verdict }: Finding): string {
  const line = `${WORDS[verdict.result]} ${name}: ${verdict.text}`;
  return verdict.result === 'fail' && verdict.todo !== '' ? `${line}: ${verdict.todo}` : line;
}
