import { setTimeout as pause } from 'node:timers/promises';
import { openPortal } from '../../dataplane/portal.js';
import type { DaemonConfig } from '../config/types.js';
import { formatDuration } from '../config/values.js';
import type { Log } from '../core/ports/log.js';
import type { BaseStore } from '../core/ports/store.js';
import { certificateTools } from '../identity/ca.js';
import { parseJoinToken, type Sha256 } from '../identity/join-token.js';
import { openSodium } from '../identity/sodium.js';
import { openStateDir } from '../identity/state-dir.js';
import { statements } from '../identity/statements.js';
import { formatHostPort, type HostPort } from '../model/address.js';
import { VpndError } from '../model/errors.js';
import { shortId } from '../model/ids.js';
import type { WireGuardKeyPair } from '../model/keys.js';
import type { JoinToken } from '../model/messages.js';
import { sampleHostLoad } from '../obs/host-load.js';
import { type Health, serveHealth } from '../obs/http.js';
import { openLog } from '../obs/log.js';
import { openMetrics } from '../obs/metrics.js';
import { mayBeMember } from '../roles/common/enrolment-facts.js';
import { systemClock } from '../roles/common/system-clock.js';
import type { RunningRole } from '../roles/ports.js';
import { STORE_FILES } from '../store/sqlite/open.js';
import { requireFreePorts } from '../transport/free-ports.js';
import { grpcNetwork } from '../transport/grpc-network.js';
import { serveLocalApi } from '../transport/local-api-server.js';
import { findLoginPage } from '../transport/login-page.js';
import { tcpReach } from '../transport/reach.js';
import { udpDatagrams } from '../transport/udp.js';
import { udpSockets } from '../transport/udp-sockets.js';
import type { Io } from './io.js';
import { keepAudit } from './keep-audit.js';
import { type Lifecycle, lifecycle, type StopReport, watchSignals } from './lifecycle.js';
import { openDns } from './open-dns.js';
import { requireCapabilities } from './privileges.js';
import {
  type ForwardingConfig,
  openDataPlane,
  openNetworkWatchOf,
  openRoleStore,
  startBaseRole,
  startForwardingRole,
} from './start-role.js';
import { softwareVersion } from './version.js';

/**
 * Runs a daemon in the foreground until a signal stops it. Rejects with what kept it from starting; `hasStarted` is called
 * when nothing did. `dnsHelper` is a descriptor, of a socket to the process that sets this machine's resolver.
 */
export async function runDaemon(
  config: DaemonConfig,
  io: Io,
  hasStarted: () => void = () => {},
  dnsHelper?: number,
): Promise<void> {
  await requireCapabilities(config);
  process.umask(0o077);
  const log = openLog({
    level: config.logLevel,
    privacy: config.logPrivacy,
    role: config.role,
    region: config.role === 'base' ? undefined : config.region,
  });
  const stopCrashing = crashLoudly(log, io);
  const life = lifecycle(systemClock());
  let isAnnounced = false;
  const stopping: StopReport = {
    failed: (name, err) => log.error(`stopping ${name} failed`, { err }),
    slow: (name) => {
      if (!isAnnounced) io.out(`vpnd ${config.role} stopping: waits for ${name}; a second signal ends it at once\n`);
    },
  };
  const attempt: Attempt = { cameToNothing: false, dnsHelper };
  const signals = watchSignals(io);
  try {
    const started = start(config, log, life, io, attempt);
    // A start that fails after a signal has already been answered for.
    started.catch(() => {});
    const role = await Promise.race([started, signals.first.then(() => undefined)]);
    if (role === undefined) log.info('stopping before the start was complete');
    else {
      if (process.geteuid?.() === 0) {
        log.warn('runs as root: whoever breaks into this daemon has the whole machine; leave --user root out');
      }
      hasStarted();
      announce(role, config, io, signals.first, log);
      await signals.first;
      log.info('stopping');
      const waits = await awaited(config, role);
      isAnnounced = waits !== '';
      io.out(`vpnd ${config.role} stopping${waits}\n`);
    }
  } catch (thrown) {
    attempt.cameToNothing = true;
    throw thrown;
  } finally {
    await life.stop(stopping);
    signals.close();
    stopCrashing();
  }
}

/** A start: what it leaves behind depends on whether it was one. */
interface Attempt {
  cameToNothing: boolean;
  readonly dnsHelper: number | undefined;
}

/** Start-up as a list: each step says how it is undone, and `life` undoes them backwards. */
async function start(config: DaemonConfig, log: Log, life: Lifecycle, io: Io, attempt: Attempt): Promise<RunningRole> {
  const clock = systemClock();
  const { crypto, random } = await openSodium();

  const joinToken = config.role === 'base' ? undefined : tokenOf(config, crypto.sha256);

  const state = openStateDir(config.stateDir, crypto);
  let isMember = false;
  life.onStop('the state directory', () => {
    // A first start that failed leaves nothing; but whom base may know by now must keep the key it is known by.
    if (attempt.cameToNothing && state.fresh && !isMember) state.discard(STORE_FILES);
    else state.close();
  });
  await requireFreePorts({
    tcp: listensOn(config),
    udp: config.role === 'supernode' ? config.probePort : undefined,
  });
  const identity = state.identity();
  for (const warning of state.warnings) log.warn(warning);

  const store = openRoleStore(config);
  life.onStop('the database', () => {
    // What cannot be read counts as something to keep.
    isMember = true;
    try {
      isMember = mayBeMember(store.facts);
    } finally {
      store.close();
    }
  });

  const version = `vpnd/${softwareVersion()}`;
  const kept = keepAudit(config, { store, identity, crypto, clock, log, version });
  life.onStop('the audit log', () => kept.close());

  const { metrics, host, registry } = openMetrics();
  let health = (): Health => ({ ok: false, detail: 'starting' });
  if (config.metricsListen !== undefined) {
    const server = await serveHealth({
      listen: config.metricsListen,
      registry,
      health: () => health(),
      names: [config.metricsListen.host],
    });
    life.onStop('the metrics endpoint', () => server.close());
  }
  const sampler = config.role === 'supernode' ? sampleHostLoad({ clock, metrics: host }) : undefined;
  life.onStop('load sampling', () => sampler?.close());

  const network = grpcNetwork({ log, random, clock, metrics });
  life.onStop('the network', () => network.close());

  const shared = {
    clock,
    random,
    crypto,
    statements: statements(crypto),
    certificates: certificateTools(),
    network,
    datagrams: udpDatagrams(),
    reach: tcpReach,
    udpSockets,
    findLoginPage,
    hostLoad: () => sampler?.current() ?? { cpuPercent: 0, txMbps: 0, rxMbps: 0 },
    log,
    audit: kept.audit,
    metrics,
    version,
  };
  let role: RunningRole;
  if (config.role === 'base') {
    role = await startBaseRole(config, { ...shared, store: store as BaseStore }, state);
  } else {
    const dataplane = await openDataPlane(config, { clock, log });
    life.onStop('the data plane', () => dataplane.close());
    const networkWatch = await openNetworkWatchOf(config, { clock, log });
    life.onStop('the watch over the networks', () => networkWatch.close());
    const dns = openDns(config, attempt.dnsHelper);
    life.onStop('the resolver', () => dns?.close());
    const portal = config.role === 'client' && config.dataplane !== 'memory' ? openPortal() : undefined;
    const keys = {
      identity,
      wireguard: state.wireGuardKeys(),
      keepWireguard: (pair: WireGuardKeyPair) => {
        try {
          state.keepWireGuardKeys(pair);
        } catch (err) {
          // The database has it; the next start tries again.
          log.warn('a WireGuard key that was replaced may still be in its file', { err });
        }
      },
      joinToken,
    };
    role = await startForwardingRole(config, { ...shared, store, dataplane, networkWatch, dns, portal }, keys);
  }
  const stopRole = once(async () => {
    for (const line of await role.stop()) io.out(`${line}\n`);
  });
  life.onStop(`the ${config.role}`, stopRole);
  health = () => role.health();

  const api = await serveLocalApi({
    socket: config.socket,
    role: config.role,
    handlers: role.local,
    log,
    audit: kept.audit,
  });
  if (config.role === 'supernode') {
    // Its sessions may take minutes to go elsewhere; meanwhile one can ask it how far it is.
    life.onStop('the supernode', () => stopRole().finally(() => api.close()));
  } else life.onStop('the local API', () => api.close());

  const metricsAt = config.metricsListen === undefined ? 'off' : formatHostPort(config.metricsListen);
  io.out(
    `vpnd ${config.role} started: peer ${shortId(identity.id)}, state in ${config.stateDir}, metrics ${metricsAt}\n`,
  );
  return role;
}

/** Runs a task at the first call; every call answers with how that one went. */
function once(task: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () => {
    running ??= task();
    return running;
  };
}

/** What a stop takes its time for, where that is known beforehand; '' where it is not, or not known at once. */
async function awaited(config: DaemonConfig, role: RunningRole): Promise<string> {
  if (config.role !== 'supernode' || config.drainTimeout === 0) return '';
  const status = await Promise.race([
    role.local.status().catch(() => undefined),
    pause(500, undefined, { ref: false }),
  ]);
  const sessions = status?.sessions?.length ?? 0;
  if (sessions === 0) return '';
  const count = `${sessions} session${sessions === 1 ? '' : 's'}`;
  return `: ${count} may go over to other supernodes, for ${formatDuration(config.drainTimeout)} at most; a second signal ends it at once`;
}

function listensOn(config: DaemonConfig): readonly HostPort[] {
  if (config.role === 'supernode') return [config.listen, ...config.listenAlso];
  return config.role === 'base' ? [config.listen] : [];
}

function tokenOf(config: ForwardingConfig, sha256: Sha256): JoinToken | undefined {
  if (config.join === undefined) return undefined;
  const parsed = parseJoinToken(config.join, sha256);
  if (!parsed.ok) throw new VpndError('bad-config', `--join: ${parsed.error.message}`, { cause: parsed.error });
  return parsed.value;
}

/** Says when the role can do its work: base at once, the others when their stream is up for the first time. */
function announce(role: RunningRole, config: DaemonConfig, io: Io, until: Promise<void>, log: Log): void {
  const stop = new AbortController();
  void until.then(() => stop.abort());
  const wait = async (): Promise<void> => {
    for (;;) {
      // Listening before looking, so that no change falls between the two.
      const changed = role.local.statusChanged?.(stop.signal);
      changed?.catch(() => {});
      const { upstream, region, peerId, facts } = await role.local.status();
      if (stop.signal.aborted) return;
      if (config.role === 'base' || upstream?.state === 'up') {
        const where = [
          region && `region ${region}`,
          listensOn(config).length > 0 ? `listening on ${listensOn(config).map(formatHostPort).join(', ')}` : '',
          upstream?.supervisorId &&
            `${config.role === 'supernode' ? 'base' : `supernode ${shortId(upstream.supervisorId)}`} at ${upstream.address}`,
          facts?.advertise && `advertised as ${facts.advertise}`,
        ];
        io.out(
          `vpnd ${config.role} ready: ${[`peer ${shortId(peerId ?? '')}`, ...where].filter(Boolean).join(', ')}\n`,
        );
        return;
      }
      if (changed === undefined) return;
      await changed;
    }
  };
  wait().catch((err) => {
    if (!stop.signal.aborted) log.debug('cannot tell when the role is ready', { err });
  });
}

/** An error nobody caught ends the process with a line in the log; the kernel's state stays, and the next start adopts it. */
function crashLoudly(log: Log, io: Io): () => void {
  const crash = (err: unknown): void => {
    log.error('internal error, ending', { err });
    io.exitNow(1);
  };
  process.on('uncaughtException', crash);
  process.on('unhandledRejection', crash);
  return () => {
    process.off('uncaughtException', crash);
    process.off('unhandledRejection', crash);
  };
}
