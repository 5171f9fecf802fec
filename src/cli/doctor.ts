import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { joinToken, port, unlessOff } from '../config/values.js';
import { Role as WireRole } from '../gen/vpnd/v1/types_pb.js';
import { parseJoinToken } from '../identity/join-token.js';
import { openSodium } from '../identity/sodium.js';
import { type HostPort, type Port, parseHostPort, parsePort } from '../model/address.js';
import type { Role } from '../model/role.js';
import { type Millis, ms } from '../model/time.js';
import { machineChecks } from './doctor-machine.js';
import { networkChecks } from './doctor-network.js';
import { type Finding, findingLine, runChecks } from './doctor-report.js';
import { type DaemonChoice, findDaemon, parseRole, withDaemonChoice } from './find-daemon.js';
import { type ExitStatus, type Io, UsageError } from './io.js';
import { check } from './up.js';

interface DoctorOptions extends DaemonChoice {
  readonly supernode?: string;
  readonly joinFile?: string;
  readonly probePort?: string;
  readonly json?: boolean;
}

const DEFAULT_PORT = 443 as Port;
const DEFAULT_PROBE_PORT = 40000 as Port;

export function doctorCommand(program: Command, io: Io, outcome: { status: ExitStatus }): void {
  withDaemonChoice(program.command('doctor'))
    .summary('see what is missing on this machine')
    .description(
      'Checks what vpnd needs of this machine and of the network, a line for each, with what to do about it. Leaves nothing changed.',
    )
    .option('--supernode <host[:port]>', 'what to reach; unless given, where the running daemon connects to')
    .option('--join-file <path>', 'file with a join token, whose base is what to reach')
    .option('--probe-port <port>', 'UDP port of its reflector, or off (default: as published, else 40000)')
    .option('--json', 'print what was found as JSON')
    .addHelpText('after', '\nExamples:\n  vpnd doctor\n  vpnd doctor --role exit --supernode sn1.example.org')
    .action(async (options: DoctorOptions) => {
      const asked = options.role === undefined ? undefined : parseRole(options.role);
      const daemon = await runningDaemon(options, io);
      const role = asked ?? daemon?.role ?? 'client';
      const given = await givenTarget(options);
      const target = given ?? daemon?.supernode?.address;
      const base = options.supernode === undefined && (options.joinFile !== undefined || role === 'supernode');
      const published = given === undefined ? daemon?.supernode?.probePort : DEFAULT_PROBE_PORT;
      const named = check('--probe-port', options.probePort, unlessOff(port));
      const probePort = base ? undefined : options.probePort === undefined ? published : named;
      const findings: Finding[] = [];
      const healthy = await runChecks(
        [
          ...machineChecks(role, daemon?.clockOffset),
          ...(daemon?.held ? networkChecks(undefined, undefined, HELD) : networkChecks(target, probePort)),
        ],
        (finding) => {
          findings.push(finding);
          if (!options.json) io.out(`${findingLine(finding)}\n`);
        },
      );
      if (options.json) io.out(`${JSON.stringify(findings.map(({ name, verdict }) => ({ name, ...verdict })))}\n`);
      if (!healthy) outcome.status = 1;
    });
}

const HELD =
  'the kill switch lets nobody but the client itself ask: `upstream` in `vpnd status` says what it reaches; else vpnd down (and vpnd lockdown off) first';

const ROLE_OF: Partial<Record<WireRole, Role>> = {
  [WireRole.BASE]: 'base',
  [WireRole.SUPERNODE]: 'supernode',
  [WireRole.EXIT]: 'exit',
  [WireRole.CLIENT]: 'client',
};

interface DaemonView {
  readonly role: Role | undefined;
  readonly supernode: { readonly address: HostPort; readonly probePort: Port | undefined } | undefined;
  /** Its kill switch is on. */
  readonly held: boolean;
  /** The supervisor's clock less this machine's. */
  readonly clockOffset: Millis | undefined;
}

/** What a daemon on this machine tells about itself; most people run the doctor because there is none. */
async function runningDaemon(options: DoctorOptions, io: Io): Promise<DaemonView | undefined> {
  try {
    const status = await (await findDaemon(options, 'client', io)).status();
    const at = status.upstream?.address ?? '';
    // The one it is connected to, or else the one it would try first.
    const known = status.supernodes.find((one) => one.address === at) ?? status.supernodes[0];
    const address = parseHostPort(known?.address ?? at);
    const probePort = parsePort(known?.probePort ?? 0);
    return {
      role: ROLE_OF[status.role],
      supernode: address.ok
        ? { address: address.value, probePort: probePort.ok ? probePort.value : undefined }
        : undefined,
      held: status.facts.kill_switch?.startsWith('on') === true,
      clockOffset: status.upstream?.clockOffsetMs === undefined ? undefined : ms(Number(status.upstream.clockOffsetMs)),
    };
  } catch (thrown) {
    if (thrown instanceof UsageError && options.role === undefined) throw thrown;
    return undefined;
  }
}

async function givenTarget(options: DoctorOptions): Promise<HostPort | undefined> {
  if (options.supernode !== undefined) {
    const parsed = parseHostPort(options.supernode, DEFAULT_PORT);
    if (!parsed.ok) throw new UsageError(`--supernode: '${options.supernode}' is not a host like sn1.example.org:443`);
    return parsed.value;
  }
  if (options.joinFile === undefined) return undefined;
  let text: string;
  try {
    text = readFileSync(options.joinFile, 'utf8');
  } catch (thrown) {
    const why = (thrown as NodeJS.ErrnoException).code ?? 'unknown error';
    throw new UsageError(`--join-file: '${options.joinFile}' cannot be read (${why})`);
  }
  const compact = joinToken(text);
  const { crypto } = await openSodium();
  const token = compact.ok ? parseJoinToken(compact.value, crypto.sha256) : undefined;
  if (!token?.ok) throw new UsageError(`--join-file: what '${options.joinFile}' holds is not a whole join token`);
  return token.value.base[0];
}
