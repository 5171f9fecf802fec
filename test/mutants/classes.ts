import type { Attack } from './mutant.js';

/** The mistakes that systems like this one have made, by the numbers of the table in docs/security.md. */
export const CLASSES: Readonly<Record<number, { readonly name: string; readonly known: string }>> = {
  1: { name: 'a local API that web pages reach', known: 'CVE-2022-41924' },
  2: { name: 'an API that tells the environment', known: 'CVE-2022-41925' },
  3: { name: 'privileges given up in part', known: 'CVE-2023-28436' },
  4: { name: 'secrets compared until they differ', known: 'TS-2025-003' },
  5: { name: 'members by where somebody comes from', known: 'TS-2025-004' },
  6: { name: 'a one-time key that is used twice at once', known: 'TS-2025-007' },
  7: { name: 'identity by something that can be changed', known: 'Headscale 0.24' },
  8: { name: 'secrets in logs', known: 'CVE-2023-47390' },
  9: { name: 'a clock ahead that shuts a key out for good', known: 'CVE-2021-46873' },
  10: { name: 'a key in the program', known: 'CVE-2022-23650' },
  11: { name: 'a key that is missing, or everybody’s, and taken', known: 'CVE-2023-32077' },
  12: { name: 'acting on what is somebody else’s', known: 'CVE-2023-32078' },
  13: { name: 'rights taken from fields of a request', known: 'CVE-2023-32079' },
  14: { name: 'signatures that are parsed and not checked', known: 'CVE-2026-38651' },
  15: { name: 'calls that anybody may make', known: 'CVE-2026-29771' },
  16: { name: 'a password by default', known: 'CVE-2025-10678' },
  17: { name: 'a nonce used again', known: 'CVE-2024-41260' },
  18: { name: 'a block list of bytes that can be written otherwise', known: 'CVE-2026-25793' },
  19: { name: 'another source address inside the overlay', known: 'CVE-2025-62820' },
  20: { name: 'programs found by PATH or the working directory', known: 'CVE-2020-11498' },
  21: { name: 'state before limits, ends by strangers', known: 'Nebula, spoofed close' },
  22: { name: 'an end said again that prolongs a session', known: 'CVE-2024-28882' },
  23: { name: 'a message that ends the process', known: 'CVE-2017-7478' },
  24: { name: 'two failing proofs that make one', known: 'CVE-2022-0547' },
  25: { name: 'relaying to loopback and other special addresses', known: 'CVE-2020-26262' },
  26: { name: 'limits after decompression', known: 'CVE-2024-37168' },
  27: { name: 'floods of HTTP/2 resets and CONTINUATIONs', known: 'CVE-2023-44487, CVE-2024-27983' },
  28: { name: 'memory that a peer decides on', known: 'CVE-2022-23492' },
  29: { name: 'identities that collide', known: 'ZeroTier 2021' },
  30: { name: 'a tunnel address that the LAN can ask for', known: 'Mullvad audit 2024' },
};

/** What is done to the network around the nodes. */
export const ATTACKS_BY_NAME: Readonly<Record<Attack, { readonly name: string; readonly known: string }>> = {
  'port-shadow': { name: 'a client that takes a port of its exit’s router', known: 'CVE-2021-3773' },
  tunnelvision: { name: 'routes of a DHCP server that go round the tunnel', known: 'CVE-2024-3661' },
  tunnelcrack: {
    name: 'a LAN that claims public addresses, exemptions too wide',
    known: 'CVE-2023-36672, CVE-2023-35838',
  },
  'open-reflector': { name: 'a relay that sends on what strangers send', known: '' },
  'tunnel-injection': { name: 'packets for the tunnel’s address from outside it', known: 'CVE-2019-14899' },
  'exit-lan': { name: 'the exit’s own network and metadata services', known: '' },
};
