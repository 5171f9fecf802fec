import type { DaemonConfig } from '../config/types.js';
import type { Clock } from '../core/ports/clock.js';
import type { DataPlane } from '../core/ports/dataplane.js';
import type { Log } from '../core/ports/log.js';
import type { NetworkWatch } from '../core/ports/network-watch.js';
import type { BaseStore, Store } from '../core/ports/store.js';
import type { StateDir } from '../identity/state-dir.js';
import type { NodeKeys } from '../roles/common/keys.js';
import type { ForwardingPorts, RolePorts, RunningRole } from '../roles/ports.js';
import { openBaseStore, openStore } from '../store/sqlite/open.js';

type BaseConfig = Extract<DaemonConfig, { role: 'base' }>;
export type ForwardingConfig = Exclude<DaemonConfig, BaseConfig>;

/** Opens a node's database. */
export const openRoleStore = (config: DaemonConfig): Store | BaseStore =>
  config.role === 'base' ? openBaseStore(config.stateDir) : openStore(config.stateDir, { role: config.role });

/** The data plane that a configuration names. Only what it needs is loaded. */
export async function openDataPlane(config: ForwardingConfig, deps: { clock: Clock; log: Log }): Promise<DataPlane> {
  if (config.dataplane === 'memory') {
    const { openMemoryDataPlane } = await import('../../dataplane/memory.js');
    return openMemoryDataPlane();
  }
  const { openLinuxDataPlane } = await import('../../dataplane/linux.js');
  const { lockdownFileIn } = await import('../../dataplane/lockdown-file.js');
  return openLinuxDataPlane({
    owner: config.role,
    engine: config.dataplane,
    launcher: true,
    ...(config.role === 'supernode' ? { relayPorts: config.relayPorts } : {}),
    ...(config.role === 'client' ? { lockdownFile: lockdownFileIn(config.stateDir) } : {}),
    ...deps,
  });
}

/** News of the networks underneath, for the roles that move with their machine. Only what it needs is loaded. */
export async function openNetworkWatchOf(
  config: ForwardingConfig,
  deps: { clock: Clock; log: Log },
): Promise<NetworkWatch & { close(): Promise<void> }> {
  if (config.dataplane === 'memory' || config.role === 'supernode') return BLIND_WATCH;
  const { openNetworkWatch } = await import('../../dataplane/network-watch.js');
  return openNetworkWatch(deps);
}

/** Never any news of the network. */
const BLIND_WATCH: NetworkWatch & { close(): Promise<void> } = {
  current: () => ({ fingerprint: 'unknown', connected: true }),
  listen: () => () => {},
  close: async () => {},
};

/** Starts one role; the code of the others is not even loaded. */
export async function startForwardingRole(
  config: ForwardingConfig,
  ports: ForwardingPorts,
  keys: NodeKeys,
): Promise<RunningRole> {
  switch (config.role) {
    case 'supernode':
      return (await import('../roles/supernode/index.js')).startSupernode(config, ports, keys);
    case 'exit':
      return (await import('../roles/exit/index.js')).startExit(config, ports, keys);
    case 'client':
      return (await import('../roles/client/index.js')).startClient(config, ports, keys);
  }
}

/** Starts base with the identity and the CA of its state directory, made at the first start. */
export async function startBaseRole(
  config: BaseConfig,
  ports: RolePorts<BaseStore>,
  state: StateDir,
): Promise<RunningRole> {
  const { loadBaseKeys, startBase } = await import('../roles/base/index.js');
  return startBase(config, ports, await loadBaseKeys(state, ports.store.facts, ports.certificates, ports.clock.now()));
}
