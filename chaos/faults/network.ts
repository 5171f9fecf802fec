import type { Host } from '../lab/index.js';

/** What happens to packets on a machine, as an nft table of the fault's own: put there, and lifted again. */
export class Trouble {
  private constructor(
    private readonly host: Host,
    private readonly name: string,
  ) {}

  /** `chain`: type, hook, priority and rules. */
  static async at(host: Host, name: string, chain: string): Promise<Trouble> {
    await host.nft(`table inet chaos_${name} { chain c { ${chain}; }; }\n`);
    return new Trouble(host, name);
  }

  /** Harmless when it was lifted before. */
  async lifted(): Promise<void> {
    await this.host.nft(`table inet chaos_${this.name}\ndelete table inet chaos_${this.name}\n`);
  }
}

const FORWARD = 'type filter hook forward priority -5; policy accept;';

/** Nothing of TCP passes this router any more, and nobody is told: streams are half open on both sides. */
export const silenceTcp = (router: Host): Promise<Trouble> =>
  Trouble.at(router, 'tcp', `${FORWARD} meta l4proto tcp drop`);

/** Whoever sends data towards a supernode through this router is answered with a reset, in the middle of what it says. */
export const resetInTheMiddle = (router: Host): Promise<Trouble> =>
  Trouble.at(router, 'reset', `${FORWARD} tcp dport 443 meta length > 100 reject with tcp reset`);

/** Packets get lost in both directions, at random. */
export const lose = (router: Host, percent: number): Promise<Trouble> =>
  Trouble.at(router, 'loss', `${FORWARD} numgen random mod 100 < ${percent} drop`);

/** What a supernode says to those behind this router comes at a crawl: they read slowly, as it sees them. */
export const crawl = (router: Host, bytesPerSecond: number): Promise<Trouble> =>
  Trouble.at(
    router,
    'crawl',
    `${FORWARD} tcp sport 443 meta length > 60 limit rate over ${bytesPerSecond} bytes/second burst 3000 bytes drop`,
  );

/** Two machines do not hear each other any more, other than from third ones. */
export async function partition(one: readonly Host[], other: readonly Host[]): Promise<() => Promise<void>> {
  const addresses = (hosts: readonly Host[]) => hosts.map(({ ipv4 }) => ipv4 ?? '').filter((ip) => ip !== '');
  const deaf = (host: Host, to: readonly string[]) =>
    Trouble.at(
      host,
      'partition',
      `type filter hook prerouting priority -310; policy accept; ip saddr { ${to.join(', ')} } drop`,
    );
  const troubles = await Promise.all([
    ...one.map((host) => deaf(host, addresses(other))),
    ...other.map((host) => deaf(host, addresses(one))),
  ]);
  return async () => {
    await Promise.all(troubles.map((trouble) => trouble.lifted()));
  };
}
