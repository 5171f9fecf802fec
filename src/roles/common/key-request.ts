import { VpndError } from '../../model/errors.js';

const LONGEST_REASON = 200;
const BY_HAND = 'asked for by hand';

/** Why a key is replaced, as somebody said it. Throws `bad-config`. */
export function keyReason(text: string): string {
  if (text.length > LONGEST_REASON || /\p{Cc}/u.test(text))
    throw new VpndError('bad-config', `--reason is one line of at most ${LONGEST_REASON} characters`);
  return text === '' ? BY_HAND : text;
}

/** @param node "an exit", "base" */
export const unknownKey = (node: string, what: string): VpndError =>
  new VpndError('not-supported', `${node} has no such key to rotate: ${what.slice(0, 32).replace(/\P{L}/gu, '?')}`);
