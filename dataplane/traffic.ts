import { readFileSync } from 'node:fs';
import type { DeviceTraffic, InterfaceName } from '../src/model/dataplane.js';

/** Where packets stand behind `name:` in /proc/net/dev: bytes, packets, six more, then the same for sending. */
const RX_PACKETS = 1;
const TX_PACKETS = 9;

/**
 * Packets of a device since it was made; undefined where there is none. One small file, which shows the network
 * namespace of whoever reads it, where /sys shows the one that it was mounted in.
 *
 * With wireguard-go these are the packets inside the tunnel. The kernel's WireGuard counts what it sends and receives
 * outside: keepalives and handshakes are packets too. So a packet sent that nothing answers is no sign of a dead tunnel
 * by itself, only of one worth probing; and what is received is a sign of life with either.
 */
export function readTraffic(device: InterfaceName): DeviceTraffic | undefined {
  return parseTraffic(readFileSync('/proc/self/net/dev', 'utf8'), device);
}

export function parseTraffic(table: string, device: string): DeviceTraffic | undefined {
  const fields = fieldsOf(table, device);
  const rxPackets = Number(fields[RX_PACKETS]);
  const txPackets = Number(fields[TX_PACKETS]);
  return Number.isNaN(rxPackets) || Number.isNaN(txPackets) ? undefined : { rxPackets, txPackets };
}

/** Third of the six between: frame errors, which is what the kernel's WireGuard counts a packet as whose source is not its peer's. */
const RX_FRAME = 5;

/**
 * Packets that a device's WireGuard refused since they came from an address that is not their sender's. wireguard-go
 * refuses them, too, and counts none.
 */
export function readUnallowed(device: InterfaceName): number {
  return parseUnallowed(readFileSync('/proc/self/net/dev', 'utf8'), device);
}

export function parseUnallowed(table: string, device: string): number {
  const count = Number(fieldsOf(table, device)[RX_FRAME]);
  return Number.isFinite(count) ? count : 0;
}

function fieldsOf(table: string, device: string): readonly string[] {
  const line = table.split('\n').find((one) => one.trimStart().startsWith(`${device}:`));
  if (line === undefined) return [];
  return line
    .slice(line.indexOf(':') + 1)
    .trim()
    .split(/\s+/);
}
