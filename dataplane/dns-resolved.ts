import type { InterfaceName } from '../src/model/dataplane.js';
import type { DnsTools } from './dns-tools.js';

/** Every name, and not only those without another place to go (resolved.conf(5), Domains=). */
const EVERYTHING = '~.';

/**
 * systemd-resolved by resolvectl(1): the tunnel's own resolvers, every name to them, and none by default to others'. It forgets
 * what belongs to an interface with the interface itself, and keeps it over its own restart.
 */
export class Resolved {
  constructor(private readonly tools: DnsTools) {}

  /** True when something was not so before. Rejects with VpndError `dataplane`, `no-tool`. */
  async put(device: InterfaceName, servers: readonly string[]): Promise<boolean> {
    if (await this.#isSo(device, servers)) return false;
    await this.tools.run('resolvectl', ['dns', device, ...servers]);
    await this.tools.run('resolvectl', ['domain', device, EVERYTHING]);
    await this.tools.run('resolvectl', ['default-route', device, 'yes']);
    // What the network before has said of names must not be believed in the tunnel.
    await this.tools.run('resolvectl', ['flush-caches']);
    return true;
  }

  /** Never rejects: what cannot be undone goes with its interface. True when something was there. */
  async revert(device: InterfaceName): Promise<boolean> {
    try {
      if ((await this.#told('domain', device)) !== EVERYTHING) return false;
      await this.tools.run('resolvectl', ['revert', device]);
      await this.tools.run('resolvectl', ['flush-caches']);
      return true;
    } catch {
      return false;
    }
  }

  async #isSo(device: InterfaceName, servers: readonly string[]): Promise<boolean> {
    const dns = await this.#told('dns', device);
    if (dns !== servers.join(' ')) return false;
    return (await this.#told('domain', device)) === EVERYTHING && (await this.#told('default-route', device)) === 'yes';
  }

  /** `Link 7 (wg-client): 9.9.9.9 149.112.112.112` -> what follows the colon. */
  async #told(what: 'dns' | 'domain' | 'default-route', device: InterfaceName): Promise<string> {
    const said = await this.tools.run('resolvectl', [what, device]);
    return /^Link \d+ \([^)]*\):(.*)$/m.exec(said)?.[1]?.trim().replace(/\s+/g, ' ') ?? '';
  }
}
