import { type Endpoint, familyOf, type Port } from '../src/model/address.js';
import type { EndpointPin, FullTunnelUnit } from '../src/model/dataplane.js';

/** A pin as the kernel needs to know it. */
export interface Pin {
  readonly unit: FullTunnelUnit & { readonly pin: EndpointPin };
  /** Of the tunnel's own UDP socket: packets for other programs from the same places are not its business. */
  readonly listenPort: Port;
}

/** Counters of packets as they came, before anything was made to look different. */
export const FROM_COUNTER = 'by_old_way';
export const TO_COUNTER = 'by_new_way';

/** A table for each pin: others come and go without touching its counters. Tunnels' tables are unique, names too long. */
export const pinTableName = (owner: string, table: number): string => `${owner}_pin_${table}`;

/**
 * In raw, before connection tracking: a host firewall that lets in only what answers has seen this machine send to the
 * new endpoint, and takes packets by the old way for answers from there.
 */
export function renderPinTable(name: string, { unit, listenPort }: Pin, flags = ''): string {
  const { from, to } = unit.pin;
  const ip = familyOf(from.ip) === 4 ? 'ip' : 'ip6';
  const came = (by: Endpoint) => `${ip} saddr ${by.ip} udp sport ${by.port} udp dport ${listenPort}`;
  const rules = [
    `${came(to)} counter name ${TO_COUNTER}`,
    `${came(from)} counter name ${FROM_COUNTER} ${ip} saddr set ${to.ip} udp sport set ${to.port}`,
  ];
  return [
    `table inet ${name} {`,
    ...(flags === '' ? [] : [flags.trimEnd()]),
    `  counter ${FROM_COUNTER} { }`,
    `  counter ${TO_COUNTER} { }`,
    '  chain pin {',
    '    type filter hook prerouting priority raw; policy accept;',
    ...rules.map((rule) => `    ${rule}`),
    '  }',
    '}',
    '',
  ].join('\n');
}
