import { fileURLToPath } from 'node:url';
import type { Host, Spawned } from '../../chaos/lab/index.js';
import { Fleet, type OverlayNode } from '../../chaos/overlay/index.js';
import { openSodium } from '../../src/identity/sodium.js';
import type { Region } from '../../src/model/role.js';
import { instantOf } from '../../src/model/time.js';
import { signMembers } from '../load/members.js';
import type { VisitOrders, VisitTally } from './visit-orders.js';

const VISITORS = fileURLToPath(new URL('./visitors.js', import.meta.url));
/** The visitors' own provider: a /24 of addresses behind one host, for the documentation (RFC 5737). */
const CROWD = { ip: '198.51.100.90', network: '203.0.113.0/24', address: (n: number) => `203.0.113.${n}` };
const CROWD_ADDRESSES = 200;
const CROWD_REGION = 'eu' as Region;
const TELL_EVERY_MS = 5_000;

/**
 * Of what stays for a day or an hour by default, little is kept: what grows until it is old enough to be forgotten would
 * look like a leak in a run of two hours, and hide one.
 */
export const SHORT_MEMORY = {
  retain: ['--retain-sessions', '10m', '--retain-events', '10m'],
  lease: ['--lease', '4m'],
} as const;

export const SUPERNODES = ['a', 'b', 'c'] as const;
export const EXITS = ['x1', 'x2', 'x3'] as const;
/** `steady` stays connected and is pinged through; the others connect and leave. */
export const CLIENTS = ['steady', 'guest1', 'guest2'] as const;

/** Three supernodes in as many regions, three exits and three clients at home, and a host from which visitors come. */
export class SoakBed {
  private constructor(
    readonly fleet: Fleet,
    readonly crowd: Host,
  ) {}

  static async make(tell: (step: string) => void): Promise<SoakBed> {
    const { retain, lease } = SHORT_MEMORY;
    const fleet = await Fleet.build({
      lab: { name: 'soak', signals: 'leave' },
      tell,
      supernodes: [
        { name: 'a', region: 'eu' },
        { name: 'b', region: 'us' },
        { name: 'c', region: 'as' },
      ],
      exits: [
        { name: 'x1', region: 'us' },
        { name: 'x2', region: 'eu' },
        { name: 'x3', region: 'as' },
      ],
      clients: CLIENTS.map((name) => ({ name, region: 'eu' })),
      supernodeArgs: [...lease, ...retain],
      exitArgs: retain,
      clientArgs: retain,
    });
    try {
      await fleet.startAll();
      const crowd = await fleet.lab.publicHost('crowd', { ipv4: CROWD.ip });
      await fleet.lab.internet.ip(`route add ${CROWD.network} via ${CROWD.ip}`);
      await crowd.ip(`route add local ${CROWD.network} dev lo`);
      return new SoakBed(fleet, crowd);
    } catch (cause) {
      await fleet.close();
      throw cause;
    }
  }

  node(name: string): OverlayNode {
    return this.fleet.node(name);
  }

  /** Start visitors; what they count goes to `told`. They end at SIGTERM, in their own time. */
  async visitors(
    options: Pick<VisitOrders, 'perSecond' | 'holdMs' | 'vanishPercent' | 'seed'>,
    told: (tally: VisitTally) => void,
  ): Promise<Spawned> {
    const { crypto } = await openSodium();
    const most = Math.ceil(options.perSecond * (options.holdMs[1] / 1000) * 2) + 20;
    const wanted = { count: most, region: CROWD_REGION, now: instantOf(Date.now()) };
    const { keys, members } = signMembers(this.fleet.base.stateDir, this.node('a').stateDir, wanted, crypto);
    const supernodes = await Promise.all(
      SUPERNODES.map(async (name) => {
        const node = this.node(name);
        return { host: node.host.ipv4 ?? '', port: 443, id: (await node.api.status()).peerId };
      }),
    );
    const orders: VisitOrders = {
      ...options,
      ca: keys.ca,
      supernodes,
      region: CROWD_REGION,
      members,
      from: Array.from({ length: CROWD_ADDRESSES }, (_, i) => CROWD.address(i + 1)),
      tellEveryMs: TELL_EVERY_MS,
    };
    return this.crowd.spawn([process.execPath, VISITORS], {
      stdin: JSON.stringify(orders),
      onLine: (line, from) => {
        if (from === 'stdout' && line.startsWith('{')) told(JSON.parse(line) as VisitTally);
        else console.error(`  visitors: ${line}`);
      },
    });
  }

  close(): Promise<void> {
    return this.fleet.close();
  }
}
