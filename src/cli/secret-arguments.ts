import { SECRET_FLAGS } from '../config/secrets.js';

const HIDDEN = '[hidden]';

/** A command line with its secrets blanked out; undefined where it has none. */
export function hiddenSecrets(args: readonly string[]): readonly string[] | undefined {
  let found = false;
  const hide = (text: string): string => {
    found = true;
    return text;
  };
  const shown = args.map((arg, i) => {
    const [flag = '', value] = halves(arg);
    if (!SECRET_FLAGS.has(flag)) return SECRET_FLAGS.has(args[i - 1] ?? '') ? hide(HIDDEN) : arg;
    return value === undefined ? arg : hide(`${flag}=${HIDDEN}`);
  });
  return found ? shown : undefined;
}

/** A command line without the flags that carry secrets, for a process that gets them another way. */
export const withoutSecrets = (args: readonly string[]): readonly string[] =>
  args.filter((arg, i) => !SECRET_FLAGS.has(halves(arg)[0]) && !SECRET_FLAGS.has(args[i - 1] ?? ''));

function halves(arg: string): readonly [flag: string, value?: string] {
  const at = arg.indexOf('=');
  return at < 0 ? [arg] : [arg.slice(0, at), arg.slice(at + 1)];
}
