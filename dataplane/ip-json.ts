import { VpndError } from '../src/model/errors.js';

type Kind = 'text' | 'number' | 'flag' | 'texts' | 'object' | 'objects';

/**
 * What is read of `ip -j`, wherever it stands, and what kind it is of: answers are taken as they come in a dozen places,
 * and another version, or a pipe that broke in the middle, must not get as far as those.
 */
const FIELDS: Readonly<Record<string, Kind>> = {
  ...kinds('text', ['ifname', 'ifalias', 'dev', 'dst', 'src', 'gateway', 'host', 'prefsrc', 'local', 'address']),
  ...kinds('text', ['family', 'scope', 'type', 'table', 'protocol', 'ipproto', 'action', 'fwmark']),
  ...kinds('number', ['priority', 'metric', 'srclen', 'dstlen', 'dport', 'sport', 'prefixlen', 'suppress_prefixlen']),
  ...kinds('flag', ['temporary', 'deprecated', 'tentative']),
  flags: 'texts',
  via: 'object',
  nexthops: 'objects',
  addr_info: 'objects',
};

function kinds(kind: Kind, names: readonly string[]): Record<string, Kind> {
  return Object.fromEntries(names.map((name) => [name, kind]));
}

/** `ip -j` prints nothing at all where it has nothing to say. Throws VpndError `dataplane` for what it never prints. */
export function parseIpJson(json: string): readonly object[] {
  if (json.trim() === '') return [];
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new VpndError('dataplane', 'ip answered something that is not JSON', { cause });
  }
  if (!Array.isArray(value)) throw new VpndError('dataplane', 'ip answered something that is not a list');
  for (const item of value) check(item);
  return value as readonly object[];
}

function check(value: unknown): void {
  if (!isObject(value)) throw strange('an item');
  for (const [name, held] of Object.entries(value)) {
    const kind = Object.hasOwn(FIELDS, name) ? FIELDS[name] : undefined;
    if (kind !== undefined && !fits(held, kind)) throw strange(name);
  }
}

function fits(value: unknown, kind: Kind): boolean {
  switch (kind) {
    case 'text':
      return typeof value === 'string';
    case 'number':
      return typeof value === 'number';
    case 'flag':
      return typeof value === 'boolean';
    case 'texts':
      return Array.isArray(value) && value.every((one) => typeof one === 'string');
    case 'object':
      check(value);
      return true;
    case 'objects':
      if (!Array.isArray(value)) return false;
      for (const one of value) check(one);
      return true;
  }
}

const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const strange = (what: string): VpndError =>
  new VpndError('dataplane', `ip answered something of unknown shape: ${what}`, { details: { tool: 'ip' } });
