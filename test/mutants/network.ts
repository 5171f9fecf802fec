import type { Mutant } from './mutant.js';

const ATTACKS = 'test/host/network-attacks.test.ts';
const INJECTION = 'tunnel injection: a neighbour reaches nothing at the tunnel’s address, nor learns that it is there';
const LOCAL_NETS = 'TunnelCrack, local networks: a LAN that claims public addresses gets none of them';
const SERVERS = 'TunnelCrack, server addresses: to a supernode’s address nothing leaves but what is for its ports';
const REFLECTOR = 'open reflector: a relay sends nothing on for strangers, whatever they send';
const EXIT_LAN = 'the exit’s own network and metadata services are out of reach';
const EGRESS = 'dataplane/egress-text.ts';
const FILTER = 'dataplane/filter-text.ts';
const ROUTING = 'dataplane/routing-text.ts';
const RELAY = 'dataplane/relay-text.ts';

/** What packets may do, as rule sets and routes say it to the kernel, and as the kernel then does it. */
export const NETWORK: readonly Mutant[] = [
  {
    name: '19-whole-pool-for-everybody',
    class: 19,
    mistake: 'an exit lets each client have any inner address',
    edits: [
      {
        file: 'dataplane/uapi.ts',
        find: '...peer.allowedIps.map((network) => `allowed_ip=${network}`)',
        put: "...peer.allowedIps.map((network) => `allowed_ip=${network.startsWith('10.') ? '10.200.0.0/13' : network}`)",
      },
      {
        file: 'dataplane/wg-tool.ts',
        find: "[`AllowedIPs = ${networks.join(', ')}`]",
        put: "[`AllowedIPs = ${networks.map((one) => (one.startsWith('10.') ? '10.200.0.0/13' : one)).join(', ')}`]",
      },
    ],
    caughtBy: {
      file: ATTACKS,
      test: ['source address: a client is nobody but itself, for others inside and for the internet'],
    },
  },
  {
    name: '19-pool-in-a-session',
    class: 19,
    mistake: 'a session is allowed the network that its address is in',
    edits: [
      {
        file: 'src/roles/common/exit-units.ts',
        find: 'allowedIps: [hostCidr(setup.inner.ipv4), hostCidr(setup.inner.ipv6)],',
        put: 'allowedIps: [`${setup.inner.ipv4}/16` as Cidr, hostCidr(setup.inner.ipv6)],',
      },
    ],
    caughtBy: {
      file: 'test/unit/exit-peers.test.ts',
      test: ['a session has its own two addresses at its exit, and no network'],
    },
  },
  {
    name: '19-no-source-check',
    class: 19,
    mistake: 'what comes out of an exit’s tunnels is not checked for where it says it comes from',
    edits: [
      {
        file: EGRESS,
        find: "`${from} ip saddr != ${v4} ${refuse('source')}`",
        put: '`${from} meta nfproto ipv4 meta mark 0x1 accept`',
      },
    ],
    caughtBy: { file: 'test/golden/dataplane.ts' },
  },
  {
    name: '30-answers-who-has',
    class: 30,
    mistake: 'the tunnel’s address is told to whoever asks the LAN for it',
    edits: [
      {
        file: FILTER,
        find: 'const rules = addresses.map((ip) => `arp daddr ip ${ip} drop`);',
        put: 'const rules = addresses.map((ip) => `arp daddr ip ${ip} accept`);',
      },
    ],
    caughtBy: { file: ATTACKS, test: ['ARP: who asks the LAN for the tunnel’s address gets no answer'] },
  },
  {
    name: 'port-shadow-same-port',
    class: 'port-shadow',
    mistake: 'an exit’s NAT keeps the port that its client has chosen',
    edits: [{ file: EGRESS, find: ' masquerade to :${CLIENT_PORTS} random`,', put: ' masquerade`,' }],
    caughtBy: { file: ATTACKS, test: ['port shadow: a client gets nothing that was meant for a service of its exit'] },
  },
  {
    name: 'tunnelvision-main-first',
    class: 'tunnelvision',
    mistake: 'routes in the main table go before the tunnel’s, as wg-quick has it',
    edits: [
      {
        file: ROUTING,
        find: '      if (unit === active) rule(unit, family, PRIORITY.all, `lookup ${table}`);\n',
        put: "      if (unit === active) rule(unit, family, PRIORITY.lan, 'lookup main suppress_prefixlength 0');\n      if (unit === active) rule(unit, family, PRIORITY.all, `lookup ${table}`);\n",
      },
    ],
    caughtBy: {
      file: ATTACKS,
      test: ['TunnelVision: routes that a DHCP server hands out take nothing out of the tunnel'],
    },
  },
  {
    name: 'tunnelcrack-public-lan',
    class: 'tunnelcrack',
    mistake: 'what is on the LAN is reached there, whatever addresses it has',
    edits: [
      {
        file: 'dataplane/special-addresses.ts',
        find: "export const LAN_IPV4 = cidrs('10.0.0.0/8', ",
        put: "export const LAN_IPV4 = cidrs('198.0.0.0/8', '10.0.0.0/8', ",
      },
    ],
    caughtBy: { file: ATTACKS, test: [LOCAL_NETS] },
  },
  {
    name: 'tunnelcrack-whole-address',
    class: 'tunnelcrack',
    mistake: 'everything for a supernode’s address goes past the tunnel',
    edits: [
      {
        file: ROUTING,
        find: 'const text = `to ${endpoint.ip} ipproto ${protocol} dport ${endpoint.port} lookup main`;',
        put: "const text = protocol === 'tcp' ? `to ${endpoint.ip} lookup main` : `to ${endpoint.ip} ipproto ${protocol} dport ${endpoint.port} lookup main`;",
      },
    ],
    caughtBy: { file: ATTACKS, test: [SERVERS] },
  },
  {
    name: 'open-reflector-strangers',
    class: 'open-reflector',
    mistake: 'a relay sends on whatever comes to one of its ports',
    edits: [
      {
        file: RELAY,
        find: '    ${f} saddr . udp dport @vouched goto front\n    drop\n',
        put: '    ${f} saddr . udp dport @vouched goto front\n    goto front\n',
      },
    ],
    caughtBy: { file: ATTACKS, test: [REFLECTOR] },
  },
  {
    name: 'open-reflector-any-host-of-the-hop',
    class: 'open-reflector',
    mistake: 'a relay sends to the address it has learned whatever comes to its port',
    edits: [
      {
        file: RELAY,
        find: '    ${f} saddr . udp sport . udp dport @hop goto back\n',
        put: '    ${f} saddr . udp sport . udp dport @hop goto back\n    ${f} saddr 198.51.100.66 goto back\n',
      },
    ],
    caughtBy: { file: ATTACKS, test: [REFLECTOR] },
  },
  {
    name: 'tunnel-injection-no-guard',
    class: 'tunnel-injection',
    mistake: 'packets for the tunnel’s address are taken from the LAN',
    edits: [
      {
        file: FILTER,
        find: 'return `iifname != { "lo", "${unit.device}" } ${family} daddr ${ip} drop`;',
        put: 'return `iifname != { "lo", "${unit.device}" } ${family} daddr ${ip} accept`;',
      },
    ],
    caughtBy: { file: ATTACKS, test: [INJECTION] },
  },
  {
    name: 'exit-lan-metadata',
    class: 'exit-lan',
    mistake: 'link-local addresses, and so a cloud’s metadata service, are carried',
    edits: [
      {
        file: 'dataplane/special-addresses.ts',
        find: "  '127.0.0.0/8',\n  '169.254.0.0/16',\n  '172.16.0.0/12',\n",
        put: "  '127.0.0.0/8',\n  '172.16.0.0/12',\n",
      },
    ],
    caughtBy: { file: ATTACKS, test: [EXIT_LAN] },
  },
  {
    name: 'exit-lan-home-network',
    class: 'exit-lan',
    mistake: 'the exit’s own network is carried, if packets come from a session',
    edits: [
      {
        file: EGRESS,
        find: "    ...to('special-address', [...NEVER_REACHED_IPV4, ...NEVER_REACHED_IPV6]),\n    ...to('own-network', own),\n",
        put: "    ...to('special-address', NEVER_REACHED_IPV6),\n",
      },
    ],
    caughtBy: { file: ATTACKS, test: [EXIT_LAN] },
  },
];
