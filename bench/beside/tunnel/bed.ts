import type { Host, Spawned } from '../../../chaos/lab/index.js';
import { Overlay } from '../../../chaos/overlay/index.js';

/** Addresses inside every tunnel but vpnd's own. */
export const INNER = { client: '10.77.0.1', exit: '10.77.0.2', relay: '10.77.0.3' } as const;
export const DEVICE = 'bench0';

/**
 * vpnd's overlay with one supernode, and on the same machines, each in its turn, everything else:
 *
 *   client - router - supernode (relay, lighthouse) - router - exit - web
 *
 * The routers translate nothing, so that every system may go direct.
 */
export class TunnelBed {
  private constructor(readonly overlay: Overlay) {}

  static async build(): Promise<TunnelBed> {
    const overlay = await Overlay.start({
      lab: { name: 'beside' },
      exitNat: 'none',
      clientNat: 'none',
      oneSupernode: true,
      clientArgs: ['--standby', 'off'],
    });
    const bed = new TunnelBed(overlay);
    try {
      await bed.exit.sysctl('net.ipv4.ip_forward=1');
      // The same for all: what comes out of a tunnel leaves under the exit's own address.
      await bed.exit.nft(
        `table ip beside {
          chain post {
            type nat hook postrouting priority srcnat
            ip saddr 10.77.0.0/24 oifname eth0 masquerade
          }
        }\n`,
      );
      return bed;
    } catch (cause) {
      await overlay.close();
      throw cause;
    }
  }

  get client(): Host {
    return this.overlay.client.host;
  }

  get exit(): Host {
    return this.overlay.exit.host;
  }

  /** The supernode's machine: also the relay and the lighthouse of others. */
  get relay(): Host {
    return this.overlay.a.host;
  }

  get web(): Host {
    return this.overlay.web.host;
  }

  get webIp(): string {
    return addressOf(this.web);
  }

  /** The way to the web server through a tunnel device; gone with the device. */
  async routeWeb(via?: string): Promise<void> {
    await this.client.ip(`route replace ${this.webIp}/32 ${via === undefined ? '' : `via ${via} `}dev ${DEVICE}`);
  }

  /** Whether the web server is reached within so many seconds, tried again and again. */
  async reaches(seconds = 15): Promise<void> {
    const giveUp = Date.now() + seconds * 1000;
    while (Date.now() < giveUp) {
      const ran = await this.client.run(['curl', '-sS', '-o', '/dev/null', '--max-time', '1', `http://${this.webIp}/`]);
      if (ran.code === 0) return;
    }
    throw new Error(`the web server is not reached through the tunnel in ${seconds} s`);
  }

  close(): Promise<void> {
    return this.overlay.close();
  }
}

/** Throws for a host without one. */
export function addressOf(host: Host): string {
  if (host.ipv4 === undefined) throw new Error(`${host.name} has no IPv4 address`);
  return host.ipv4;
}

export async function endAll(processes: readonly Spawned[]): Promise<void> {
  for (const each of processes) each.kill('SIGKILL');
  await Promise.all(processes.map((each) => each.exited));
}

/** Until a host has the device. Throws with what the process said when it ends before. */
export async function deviceUp(host: Host, owner: Spawned, device: string = DEVICE): Promise<void> {
  for (let looks = 0; looks < 500; looks++) {
    if ((await host.run(['ip', 'link', 'show', 'dev', device])).code === 0) return;
    if (!owner.running) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${owner.argv.join(' ')} made no ${device}: ${owner.lines().slice(-5).join(' | ')}`);
}
