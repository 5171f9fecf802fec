import { type Option, ROLES } from '../../../src/config/option.js';
import { OPTIONS } from '../../../src/config/options.js';
import { parseConfig } from '../../../src/config/parse.js';
import { duration, formatDuration } from '../../../src/config/values.js';
import {
  cidrAddress,
  contains,
  formatHostPort,
  nthAddress,
  parseCidr,
  parseEndpoint,
  parseHostPort,
  parseIp,
} from '../../../src/model/address.js';
import { parsePeerId } from '../../../src/model/ids.js';
import { parseWireGuardPrivateKey, parseWireGuardPublicKey } from '../../../src/model/keys.js';
import { parseCountry, parseRegion } from '../../../src/model/role.js';
import { days, ms } from '../../../src/model/time.js';
import { must, mustEqual, orRefusal } from '../engine/oracle.js';
import { bytesOf, type Target, textOf } from '../engine/target.js';

const ALL: readonly Option<unknown>[] = ROLES.flatMap((role) => Object.values(OPTIONS[role]) as Option<unknown>[]);
const NAMES = [...new Set(ALL.map((one) => one.name))];
const VALUES = [...new Set(ALL.flatMap((one) => [one.example, ...(one.default === undefined ? [] : [one.default])]))];
const SECRET = `vpnd1${'qwerty23'.repeat(6)}`;

const FILES: Readonly<Record<string, string>> = {
  base: 'advertise = ["203.0.113.1", "base.example.org:8443"]\npool-ipv4 = "10.200.0.0/13"\nmembership-ttl = "30d"\n',
  supernode: `join = "${SECRET}"\nadvertise = "203.0.113.7"\nrelay-ports = "40000-49999"\negress = true\nlease = "1h"\n`,
  exit: `join-file = "/etc/vpnd/token"\npublic-endpoint = "203.0.113.9:51820"\nmax-mbps = 100\nuplink-check = ["a.example:443"]\n`,
  client: `join = "${SECRET}"\nprivacy = "private"\nstandby = true\nrotate-every = "24h"\ntable = 51820\n`,
};

/** The role in the first line; then the file; behind a line `---` variables and flags, `NAME=value` or `name=value`. */
export const config: Target = {
  name: 'config',
  shape: 'text',
  words: [
    ...NAMES,
    ...VALUES,
    ...ROLES,
    ' = ',
    '---\n',
    'VPND_LEASE=',
    '[',
    '"""',
    "'''",
    '[[a]]',
    '[a.b]',
    '1979-05-27T07:32:00Z',
  ],
  mostBytes: 32 * 1024,
  open: async () => ({
    make: (chance) => {
      const role = chance.of(ROLES);
      const name = chance.of(NAMES);
      const value = chance.of(VALUES);
      const given = chance.oneIn(2) ? `${name}=${value}` : `VPND_${name.toUpperCase().replaceAll('-', '_')}=${value}`;
      return bytesOf(`${role}\n${FILES[role]}---\n${given}\n`);
    },
    run(input) {
      const [head, ...rest] = textOf(input).split('\n');
      const role = ROLES.find((one) => one === head) ?? 'client';
      const [file = '', given = ''] = rest.join('\n').split('---\n', 2);
      const flags: Record<string, string> = {};
      const env: Record<string, string> = {};
      for (const line of given.split('\n')) {
        const at = line.indexOf('=');
        if (at > 0) (/^VPND_|^CRED/.test(line) ? env : flags)[line.slice(0, at)] = line.slice(at + 1);
      }
      const read = (): string => SECRET;
      const parsed = parseConfig(role, { flags, env, file: { path: '/etc/vpnd/x.toml', text: file }, read });
      const settled = orRefusal(parsed, ['bad-config']);
      // Names of settings are repeated, and who writes a token there has shown it to all.
      if (!parsed.ok && !Object.keys({ ...flags, ...env }).some((name) => name.includes(SECRET.slice(0, 24))))
        must(!parsed.error.message.includes(SECRET.slice(0, 24)), 'a secret stands in an error', parsed.error.message);
      if (settled !== undefined)
        must(Object.isFrozen(settled) && settled.role === role, 'a configuration can be changed');
    },
  }),
};

/** A setting's name in the first line, and a value. */
export const option: Target = {
  name: 'option',
  shape: 'text',
  words: VALUES,
  mostBytes: 16 * 1024,
  open: async () => ({
    make: (chance) => {
      const one = chance.of(ALL);
      return bytesOf(`${one.name}\n${chance.of([one.example, one.default ?? '', chance.of(VALUES)])}`);
    },
    run(input) {
      const text = textOf(input);
      const at = text.indexOf('\n');
      const value = text.slice(at + 1);
      for (const one of ALL) {
        if (one.name !== text.slice(0, at)) continue;
        const parsed = one.parse(value);
        if (!parsed.ok) must(typeof parsed.error === 'string' && parsed.error !== '', 'a refusal says nothing');
      }
      const length = duration(ms(0), days(36_500))(value);
      if (length.ok)
        mustEqual(duration(ms(0), days(36_500))(formatDuration(length.value)), length, 'a duration changes');
    },
  }),
};

const TEXTS = [
  ...[
    '10.200.0.1',
    '::1',
    '2001:db8::7',
    '::ffff:192.0.2.1',
    '[2001:db8::1]:443',
    '203.0.113.7:443',
    'a.example.org:1',
  ],
  ...['10.200.0.0/13', 'fd76:706e:6400::/48', 'fe80::1%eth0', 'eu', 'us-east-1', 'DE', 'a'.repeat(52)],
  ...['AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=', '7dpkaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'],
];

/** Everything small that is written as text: what is read, written and read again is the same. */
export const word: Target = {
  name: 'word',
  shape: 'text',
  words: TEXTS,
  mostBytes: 4_096,
  open: async () => ({
    make: (chance) => bytesOf(chance.of(TEXTS)),
    run(input) {
      const text = textOf(input);
      const ip = parseIp(text);
      if (ip.ok) mustEqual(parseIp(ip.value), ip, 'an address changes');
      const network = parseCidr(text);
      if (network.ok) {
        mustEqual(parseCidr(network.value), network, 'a network changes');
        must(contains(network.value, cidrAddress(network.value)), 'a network does not contain itself', text);
        must(contains(network.value, nthAddress(network.value, 0)), 'nor its first address', text);
      }
      const at = parseHostPort(text);
      if (at.ok) mustEqual(parseHostPort(formatHostPort(at.value)), at, 'a host and port change');
      const endpoint = parseEndpoint(text);
      if (endpoint.ok) mustEqual(parseEndpoint(formatHostPort(endpoint.value)), endpoint, 'an endpoint changes');
      for (const parse of [parsePeerId, parseRegion, parseCountry, parseWireGuardPublicKey, parseWireGuardPrivateKey]) {
        const parsed = parse(text);
        if (parsed.ok) mustEqual(parse(parsed.value), parsed, 'a name or key changes');
      }
    },
  }),
};
