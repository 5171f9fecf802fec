import type { ClientConfig } from '../../config/types.js';
import type { DataPlane } from '../../core/ports/dataplane.js';
import { type Endpoint, formatHostPort } from '../../model/address.js';
import type { Exemption, InterfaceName, Unit } from '../../model/dataplane.js';

export interface ProtectionDeps {
  readonly config: Pick<ClientConfig, 'allowLan' | 'exclude' | 'lockdown'>;
  readonly dataplane: Pick<DataPlane, 'lockedDown' | 'excludedPrograms'>;
  /** Of all tunnels there may be. */
  readonly devices: readonly InterfaceName[];
  /** Whether the user wants a tunnel: also while one is asked for, is lost, or is waited for. */
  readonly wanted: () => boolean;
}

/** Whether traffic may leave this machine outside its tunnels, and what of it may. */
export class Protection {
  #lockdown = false;

  constructor(private readonly deps: ProtectionDeps) {}

  /** Takes up what is on file: lockdown is over when somebody says so, and not because a daemon was started. */
  start(): void {
    this.#lockdown = this.deps.config.lockdown ?? this.deps.dataplane.lockedDown();
  }

  /** Traffic is held also while nobody wants a tunnel, without a daemon, and from the next boot on. */
  get lockdown(): boolean {
    return this.#lockdown;
  }

  set lockdown(on: boolean) {
    this.#lockdown = on;
  }

  /** A kill switch is to be in force. */
  get isOn(): boolean {
    return this.#lockdown || this.deps.wanted();
  }

  /** With what the tunnels ask of the data plane, and what the daemon itself has to reach. */
  units(tunnels: readonly Unit[], own: readonly Exemption[]): readonly Unit[] {
    if (!this.isOn) return [];
    const { allowLan, exclude } = this.deps.config;
    const { devices } = this.deps;
    const endpoints = endpointsOf(tunnels, own);
    return [{ kind: 'kill-switch', devices, endpoints, own, lan: allowLan, exclude, persist: this.#lockdown }];
  }

  /** For status: what leaves outside the tunnels is said whenever something may. */
  facts(): Readonly<Record<string, string>> {
    const { config, dataplane } = this.deps;
    const running = dataplane.excludedPrograms() ?? 0;
    const outside = [
      ...config.exclude,
      ...(running === 0 ? [] : [`${running} process${running === 1 ? '' : 'es'} under vpnd exclude`]),
    ];
    return {
      kill_switch: this.isOn ? 'on: nothing leaves but by a tunnel' : 'off until vpnd up: everything leaves as it is',
      local_network: config.allowLan ? 'open (--allow-lan)' : this.isOn ? 'closed' : 'closed from vpnd up on',
      ...(outside.length === 0 ? {} : { outside: outside.join(', ') }),
      ...(this.#lockdown ? { lockdown: 'on: also after vpnd down, without the daemon and after a reboot' } : {}),
    };
  }
}

/** Where the tunnels' own packets go, as their units say it: peers, ways that are exempt for them, both ends of a pin. */
function endpointsOf(tunnels: readonly Unit[], own: readonly Exemption[]): readonly Endpoint[] {
  const others = new Set(own.map(keyOf));
  const found = tunnels.flatMap((unit): readonly Endpoint[] => {
    if (unit.kind === 'peer') return unit.endpoint === undefined ? [] : [unit.endpoint];
    if (unit.kind !== 'full-tunnel') return [];
    const exempt = unit.exempt.filter((one) => one.protocol === 'udp' && !others.has(keyOf(one)));
    return [...exempt.map(({ endpoint }) => endpoint), ...(unit.pin === undefined ? [] : [unit.pin.from, unit.pin.to])];
  });
  return [...new Map(found.map((endpoint) => [formatHostPort(endpoint), endpoint])).values()];
}

const keyOf = ({ protocol, endpoint }: Exemption): string => `${protocol} ${formatHostPort(endpoint)}`;
