/**
 * The routers that homes sit behind, in the words of RFC 4787.
 *
 * - `port-preserving`: keeps the inner port where it is free, one mapping for all destinations (endpoint-independent
 *   in effect), lets in only answers from the address and port written to.
 * - `random`: a fresh random port per destination (address- and port-dependent mapping, "symmetric").
 * - `carrier-grade`: a port-preserving home router behind a `random` router of the carrier, 100.64.0.0/10 between.
 * - `udp-blocked`: `port-preserving`, but UDP is dropped except to port 53.
 * - `none`: a plain router; the hosts' own addresses are seen, and strangers get through.
 */
export type NatKind = 'port-preserving' | 'random' | 'carrier-grade' | 'udp-blocked' | 'none';

export interface PortForward {
  readonly protocol: 'udp' | 'tcp';
  readonly port: number;
  readonly to: string;
  readonly toPort: number;
}

export interface RouterRules {
  readonly nat: Exclude<NatKind, 'carrier-grade'>;
  readonly outside: string;
  readonly inside: string;
  /** First and last port that mappings are taken from; all of them when left out. */
  readonly ports?: readonly [number, number];
  readonly forwards: readonly PortForward[];
}

/**
 * A router's whole rule set as one transaction. It answers no stranger: a router that accepted strangers' UDP for
 * itself would keep an entry for them and then map its client's port elsewhere, which real ones do not.
 */
export function renderRouter(rules: RouterRules): string {
  const { outside, inside } = rules;
  const lines = ['table inet router', 'delete table inet router', 'table inet router {'];
  if (rules.nat !== 'none') {
    lines.push(
      '  chain source {',
      '    type nat hook postrouting priority srcnat; policy accept;',
      ...masquerade(rules).map((rule) => `    meta nfproto ipv4 oifname "${outside}" ${rule}`),
      '  }',
      '  chain destination {',
      '    type nat hook prerouting priority dstnat; policy accept;',
      ...rules.forwards.map(
        ({ protocol, port, to, toPort }) =>
          `    meta nfproto ipv4 iifname "${outside}" ${protocol} dport ${port} dnat ip to ${to}:${toPort}`,
      ),
      '  }',
      '  chain input {',
      '    type filter hook input priority filter; policy accept;',
      `    iifname "${outside}" ct state new meta l4proto { tcp, udp } drop`,
      '  }',
      '  chain forward {',
      '    type filter hook forward priority filter; policy accept;',
      ...(rules.nat === 'udp-blocked' ? [`    iifname "${inside}" udp dport != 53 drop`] : []),
      `    iifname "${outside}" ct state new ct status & dnat != dnat drop`,
      `    iifname "${outside}" ct state invalid drop`,
      '  }',
    );
  }
  lines.push('}', '');
  return lines.join('\n');
}

function masquerade({ nat, ports }: RouterRules): string[] {
  const flags = nat === 'random' ? ' fully-random' : '';
  if (ports === undefined) return [`masquerade${flags}`];
  return [`meta l4proto { tcp, udp } masquerade to :${ports[0]}-${ports[1]}${flags}`, `masquerade${flags}`];
}
