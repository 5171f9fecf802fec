import { type Command, Option as Flag } from 'commander';
import { loadRawConfig, type Readers } from '../config/load.js';
import { flagOf, type Option, type OptionTable } from '../config/option.js';
import { OPTIONS } from '../config/options.js';
import { parseConfig } from '../config/parse.js';
import { readerOf, readSecretFile } from '../config/secret-file.js';
import { dropSecretVariables, secretsIn } from '../config/secrets.js';
import type { DaemonConfig } from '../config/types.js';
import { VpndError } from '../model/errors.js';
import type { Role } from '../model/role.js';
import { rememberingReader, takeHandover } from './handover.js';
import type { ExitStatus, Io } from './io.js';

const ABOUT: Record<
  Role,
  { readonly summary: string; readonly description: string; readonly examples: readonly string[] }
> = {
  base: {
    summary: 'run base: directory, membership, address leases',
    description:
      'Runs base in the foreground: the directory of supernodes, the membership CA and the leases of inner addresses.',
    examples: ['vpnd base --advertise base.example.org', 'vpnd base --listen 203.0.113.5:7400 --membership-ttl 7d'],
  },
  supernode: {
    summary: 'run a supernode: streams, exit selection, blind relay',
    description:
      'Runs a supernode in the foreground: the streams of its peers, exit selection, and blind relaying in the kernel.',
    examples: [
      'vpnd supernode --advertise 203.0.113.7 --join-file /etc/vpnd/join-token',
      'vpnd supernode --advertise sn1.example.org --relay-ip 203.0.113.7,2001:db8::7 --egress',
    ],
  },
  exit: {
    summary: 'lend this machine as an exit',
    description:
      'Runs an exit in the foreground: traffic of clients leaves to the internet from here. No open port is needed.',
    examples: ['vpnd exit --join vpnd1…', 'vpnd exit --join-file /etc/vpnd/join-token --country DE --max-mbps 50'],
  },
  client: {
    summary: 'run the client that `vpnd up` talks to',
    description: 'Runs the client daemon in the foreground. It changes nothing until `vpnd up` asks for an exit.',
    examples: ['vpnd client --join vpnd1…', 'vpnd client --privacy private', 'vpnd client --rotate-every 1h'],
  },
};

/** The command that runs a role; answered so that others can stand below it. */
export function daemonCommand(program: Command, role: Role, io: Io, outcome: { status: ExitStatus }): Command {
  const { summary, description, examples } = ABOUT[role];
  const command = program.command(role).summary(summary).description(description);
  command.option('--config <file>', `configuration file in TOML (default: /etc/vpnd/${role}.toml where it exists)`);
  const flags = new Map<Option<unknown>, Flag>();
  for (const option of Object.values(OPTIONS[role] as OptionTable)) {
    const flag = flagFor(option);
    flags.set(option, flag);
    command.addOption(flag);
  }
  command.option('--check', 'check the configuration and end');
  const shown = examples.map((example) => `  ${example}`).join('\n');
  command.addHelpText(
    'after',
    `\nEvery flag is also a variable (--log-level: VPND_LOG_LEVEL) and a key of the configuration file (log-level).${role === 'base' ? '' : ' Secrets come from files: --join-file, VPND_JOIN_FILE, or a systemd credential named join.'}\n\nExamples:\n${shown}`,
  );
  command.action(async (given: Readonly<Record<string, unknown>>) => {
    const handed = takeHandover(io.env);
    const reader = rememberingReader(handed?.files);
    const warnings: string[] = [];
    const warn = (text: string) => void warnings.push(text);
    const who = readerOf(io.env);
    const config = configFrom(role, flags, given, io.env, {
      read: reader.read,
      readSecret: (path) => readSecretFile(path, who, warn),
      secrets: handed?.secrets,
    });
    dropSecretVariables(role, io.env);
    if (io.hideArguments?.())
      warn('a secret was given as an argument, which the history of a shell keeps; give it in a file (--join-file)');
    for (const line of warnings) io.err(`vpnd: warning: ${line}\n`);
    if (given.check === true) {
      io.out(`the configuration of vpnd ${role} is good\n`);
      return;
    }
    const { becomeUser } = await import('./become-user.js');
    const status = await becomeUser(config, io, { files: reader.files, secrets: secretsIn(role, { ...config }) });
    if (status !== undefined) {
      outcome.status = status === 0 || status === 2 ? status : 1;
      return;
    }
    const { runDaemon } = await import('./run-daemon.js');
    await runDaemon(config, io, () => handed?.started(), handed?.dnsHelper);
  });
  return command;
}

function flagFor(option: Option<unknown>): Flag {
  const value = option.switch ? ` [on|off]` : ` ${option.value}`;
  const shownDefault = option.default === undefined ? '' : ` (default: ${option.default})`;
  const flag = new Flag(`${flagOf(option)}${value}`, `${option.help}${shownDefault}`);
  if (option.many) {
    flag.argParser((text: string, before: string | undefined) => (before === undefined ? text : `${before},${text}`));
  }
  return flag;
}

function configFrom(
  role: Role,
  flags: ReadonlyMap<Option<unknown>, Flag>,
  given: Readonly<Record<string, unknown>>,
  env: NodeJS.ProcessEnv,
  readers: Readers,
): DaemonConfig {
  const texts: Record<string, string> = {};
  for (const [option, flag] of flags) {
    const value = given[flag.attributeName()];
    if (value === true) texts[option.name] = 'on';
    else if (typeof value === 'string') texts[option.name] = value;
  }
  const file = typeof given.config === 'string' ? given.config : undefined;
  const raw = loadRawConfig(role, texts, file, env, readers);
  if (!raw.ok) throw raw.error;
  const config = parseConfig(role, raw.value);
  if (!config.ok) throw new VpndError('bad-config', config.error.message, { cause: config.error });
  return config.value;
}
