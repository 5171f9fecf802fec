import { createLab, type Host, type Lab } from '../../../chaos/lab/index.js';

/** Where the relay is reached from either side. */
export const RELAY_IP = '198.51.100.1';
export const PORTS = { left: 5000, right: 5001 } as const;

/** The two ends of a session. Each has an address of its own, up to 16,000 of them on a side. */
export const ends = (session: number): { readonly left: string; readonly right: string } => {
  const rest = `${Math.floor(session / 250)}.${(session % 250) + 1}`;
  return { left: `10.1.${rest}`, right: `10.2.${rest}` };
};

/**
 * Three machines in a row and one cable past the one in the middle:
 *
 *   left (10.1.0.0/16) === relay === right (10.2.0.0/16)
 *     \__________________________________/
 */
export class RelayBed {
  private constructor(
    readonly lab: Lab,
    readonly left: Host,
    readonly relay: Host,
    readonly right: Host,
  ) {}

  static async build(): Promise<RelayBed> {
    const lab = await createLab({ name: 'beside' });
    try {
      const [left, relay, right] = await Promise.all([
        lab.publicHost('left', { ipv4: '198.51.100.11' }),
        lab.publicHost('relay', { ipv4: RELAY_IP }),
        lab.publicHost('right', { ipv4: '198.51.100.12' }),
      ]);
      const bed = new RelayBed(lab, left, relay, right);
      await bed.#cable();
      return bed;
    } catch (cause) {
      await lab.close();
      throw cause;
    }
  }

  /** From now on packets for the other end's own address go through the machine in the middle, or past it. */
  async send(way: 'routed' | 'direct'): Promise<void> {
    const [toRight, toLeft] = way === 'routed' ? ['10.9.1.2', '10.9.2.2'] : ['10.9.3.2', '10.9.3.1'];
    await this.left.ip(`route replace 10.2.0.0/16 via ${toRight}`);
    await this.right.ip(`route replace 10.1.0.0/16 via ${toLeft}`);
  }

  close(): Promise<void> {
    return this.lab.close();
  }

  async #cable(): Promise<void> {
    const { left, relay, right } = this;
    await left.ip(
      `link add r0 type veth peer name l0 netns ${relay.namespace}`,
      `link add d0 type veth peer name d0 netns ${right.namespace}`,
      'addr add 10.9.1.1/24 dev r0',
      'addr add 10.9.3.1/24 dev d0',
      'link set r0 up',
      'link set d0 up',
      'route add local 10.1.0.0/16 dev lo',
    );
    await relay.ip(
      `link add r0 type veth peer name l0 netns ${right.namespace}`,
      'addr add 10.9.1.2/24 dev l0',
      'addr add 10.9.2.2/24 dev r0',
      'link set l0 up',
      'link set r0 up',
      `route add 10.1.0.0/16 via 10.9.1.1 src ${RELAY_IP}`,
      `route add 10.2.0.0/16 via 10.9.2.1 src ${RELAY_IP}`,
    );
    await right.ip(
      'addr add 10.9.2.1/24 dev l0',
      'addr add 10.9.3.2/24 dev d0',
      'link set l0 up',
      'link set d0 up',
      'route add local 10.2.0.0/16 dev lo',
      `route add ${RELAY_IP} via 10.9.2.2`,
    );
    await left.ip(`route add ${RELAY_IP} via 10.9.1.2`);
    const settings = ['net.ipv4.ip_forward=1', 'net.ipv4.conf.all.rp_filter=0'];
    // The strictest of `all` and the interface's own counts, and interfaces took theirs when they were made.
    const loose = ['l0', 'r0', 'd0'].map((device) => `net.ipv4.conf.${device}.rp_filter=0`);
    await relay.sysctl(...settings, ...loose.slice(0, 2));
    await left.sysctl(...settings, ...loose.slice(1));
    await right.sysctl(...settings, loose[0] ?? '', loose[2] ?? '');
  }
}
