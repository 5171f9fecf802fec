import type { Role } from '../model/role.js';
import { flagOf, type Option, type OptionTable, ROLES, variableOf } from './option.js';
import { OPTIONS } from './options.js';

const INTRODUCTION = `# Configuration

<!-- Written by \`node dist/src/cli/print-options.js\` from src/config/options.ts; a test holds the two together. -->

Every setting has three names that follow from one: the flag \`--relay-ports\`, the variable \`VPND_RELAY_PORTS\` and the
key \`relay-ports\` of the configuration file. A flag overrides a variable, a variable the file, the file the default.

The file is TOML, flat: \`/etc/vpnd/<role>.toml\` where it exists, or the one that \`--config FILE\` or \`VPND_CONFIG\`
names. Settings that may be given several times are lists there. Switches are \`true\` or \`false\`.

\`\`\`toml
# /etc/vpnd/supernode.toml
advertise = ["203.0.113.7", "[2001:db8::7]:443"]
relay-ports = "40000-49999"
egress = true
lease = "1h"
\`\`\`

All of it is checked before anything on the machine is touched. A key or \`VPND_\` variable that the role does not have is
an error, so that a mistyped one cannot be taken for a default. Durations carry a unit: \`500ms\`, \`30s\`, \`10m\`, \`24h\`,
\`30d\`.

## Secrets

The join token is the one secret among the settings. The first of these counts: the flag \`--join-file\` (or \`--join\`), the
variable \`VPND_JOIN_FILE\` (or \`VPND_JOIN\`), the key \`join-file\` (or \`join\`) of the configuration file, the systemd
credential \`join\` (\`LoadCredential=join:/etc/vpnd/join-token\`, which systemd puts into \`$CREDENTIALS_DIRECTORY\`). The value and
the file from one of these sources is an error. Prefer files: a flag stays in the history of a shell, and
\`/proc/<pid>/environ\` shows a variable to the same user as long as the process lives.

A file with a secret is a regular one of at most 64 KiB, owned by root, by the user that reads it or by whoever called
sudo, and writable by its owner alone; anything else is refused. One that others can read is taken with a warning. A
line end behind the secret is no part of it.
`;

const TITLES: Record<Role, string> = {
  base: 'vpnd base',
  supernode: 'vpnd supernode',
  exit: 'vpnd exit',
  client: 'vpnd client',
};

/** docs/configuration.md, whole. */
export function renderDocumentation(): string {
  return [INTRODUCTION, ...ROLES.map((role) => section(TITLES[role], OPTIONS[role]))].join('\n');
}

function section(title: string, table: OptionTable): string {
  const rows = Object.values(table).map(row);
  return [
    `## ${title}`,
    '',
    '| setting | variable | default | meaning | example |',
    '|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

function row(option: Option<unknown>): string {
  const cells = [
    `\`${flagOf(option)} ${option.switch ? '[on\\|off]' : option.value.replaceAll('|', '\\|')}\``,
    `\`${variableOf(option)}\``,
    option.default === undefined ? '' : `\`${option.default}\``,
    `${option.help}.${option.many ? ' May be given several times.' : ''}`,
    `\`${option.example}\``,
  ];
  return `| ${cells.join(' | ')} |`;
}
