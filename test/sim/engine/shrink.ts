/**
 * Delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002): fewer and fewer of a list's
 * indices that still fail. `fails` is asked at most `tries` times; the answer failed when it was asked.
 */
export async function shrink(
  length: number,
  fails: (kept: readonly number[]) => Promise<boolean>,
  tries = 200,
): Promise<readonly number[]> {
  let kept: readonly number[] = Array.from({ length }, (_, index) => index);
  let parts = 2;
  let left = tries;
  while (kept.length > 1 && left > 0) {
    const size = Math.ceil(kept.length / parts);
    let next: readonly number[] | undefined;
    for (let at = 0; at < kept.length && next === undefined && left > 0; at += size) {
      const without = [...kept.slice(0, at), ...kept.slice(at + size)];
      left--;
      if (await fails(without)) next = without;
    }
    if (next !== undefined) {
      kept = next;
      parts = Math.max(2, parts - 1);
    } else if (size > 1) parts = Math.min(kept.length, parts * 2);
    else break;
  }
  if (kept.length === 1 && left > 0 && (await fails([]))) return [];
  return kept;
}
