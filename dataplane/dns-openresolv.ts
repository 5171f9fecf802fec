import { isOfOpenresolv, serversOf } from './dns-text.js';
import type { DnsTools } from './dns-tools.js';

/**
 * Under this name vpnd's resolvers are with openresolv, whichever tunnel carries the traffic: a change of tunnels is none of
 * names.
 */
const RECORD = 'tun.vpnd';

/**
 * openresolv's resolvconf(8), which can be told that one interface's resolvers count alone (-x). The resolvconf of Debian
 * cannot; where that one has the file it is replaced instead.
 */
export class Openresolv {
  constructor(
    private readonly tools: DnsTools,
    /** What programs read at present. */
    private readonly read: () => string | undefined,
  ) {}

  /** True when something was not so before. Rejects with VpndError `dataplane`, `no-tool`. */
  async put(servers: readonly string[]): Promise<boolean> {
    const lines = servers.map((ip) => `nameserver ${ip}\n`).join('');
    if (this.#isInForce(servers) && serversOf(await this.#record()).join() === servers.join()) return false;
    await this.tools.run('resolvconf', ['-a', RECORD, '-m', '0', '-x'], lines);
    return true;
  }

  /** Never rejects. True when something was there. */
  async remove(): Promise<boolean> {
    if (serversOf(await this.#record()).length === 0) return false;
    try {
      await this.tools.run('resolvconf', ['-d', RECORD, '-f']);
      return true;
    } catch {
      return false;
    }
  }

  /** The file names ours, or a resolver of this machine's that openresolv feeds, and nobody else. */
  #isInForce(servers: readonly string[]): boolean {
    const text = this.read() ?? '';
    return isOfOpenresolv(text) && serversOf(text).every((ip) => servers.includes(ip) || /^(127\.|::1$)/.test(ip));
  }

  /** '' where there is none: `resolvconf -l` fails then. */
  async #record(): Promise<string> {
    return this.tools.has('resolvconf') ? this.tools.run('resolvconf', ['-l', RECORD]).catch(() => '') : '';
  }
}
