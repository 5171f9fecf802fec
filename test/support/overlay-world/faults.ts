import type { IpAddress } from '../../../src/model/address.js';
import type { Machine } from './machine.js';
import type { NatBehaviour, NatKind } from './nat.js';
import type { Underlay } from './underlay.js';

export interface FaultDeps {
  readonly underlay: Underlay;
  readonly node: (name: string) => Machine;
  readonly all: () => readonly Machine[];
}

/** The process of a machine is over; with `power-off` its kernel holds nothing any more either. */
export function end({ underlay }: Pick<FaultDeps, 'underlay'>, machine: Machine, how: 'process' | 'power-off'): void {
  machine.clock?.die();
  underlay.internet.kill(machine.ip, how);
  underlay.udp.forget(machine.publicIp);
  machine.host.sockets.forget();
  machine.process = undefined;
  machine.store = machine.store.reopen();
  machine.powered = how === 'process';
  if (how !== 'power-off') return;
  machine.booting = true;
  // Lockdown is on file, and in force again before any network is up.
  const kept = machine.kernel.units().filter((unit) => unit.kind === 'kill-switch' && unit.persist);
  machine.kernel.reconcile(kept.map((unit) => ({ ...unit, endpoints: [] }))).catch(() => {});
}

/** What can happen to the machines of a world and to the networks between them. */
export function faults(deps: FaultDeps) {
  const { underlay, node, all } = deps;
  const { internet } = underlay;
  return {
    /** The process dies at once; kernel and disk stay. With `power-off` others see silence, and the kernel is empty. */
    crash(name: string, how: 'process' | 'power-off' = 'process'): void {
      end(deps, node(name), how);
    },
    /** Nothing gets from one machine to the other; `control` cuts streams and calls, and lets UDP through. */
    partition(a: string, b: string, what: 'all' | 'control' = 'all'): void {
      underlay.partition(node(a), node(b), what);
    },
    heal(a: string, b: string): void {
      underlay.heal(node(a), node(b));
    },
    /** The lid is closed, or the machine hangs: nothing runs and nothing is heard until `wake`; nothing is closed. */
    sleep(name: string): void {
      node(name).asleep = true;
      node(name).clock?.sleep();
      internet.isolate(node(name).ip);
    },
    wake(name: string): void {
      node(name).asleep = false;
      internet.rejoin(node(name).ip);
      node(name).clock?.wake();
    },
    /** The daemon is stopped (SIGSTOP), or starved: its kernel and its connections go on. */
    stall(name: string): void {
      node(name).clock?.sleep();
    },
    resume(name: string): void {
      if (!node(name).asleep) node(name).clock?.wake();
    },
    /** The cable is pulled: everything runs on and nothing gets in or out. */
    unplug(name: string): void {
      node(name).unplugged = true;
      internet.isolate(node(name).ip);
      node(name).watch.changed();
    },
    plug(name: string): void {
      node(name).unplugged = false;
      internet.rejoin(node(name).ip);
      node(name).watch.changed();
    },
    /** The machine is in another network from now on: connections it had hear nothing more. */
    move(name: string, ip: string, nat: NatKind | NatBehaviour = node(name).nat.kind): void {
      const machine = node(name);
      internet.kill(machine.ip, 'power-off');
      internet.rejoin(machine.ip);
      machine.ip = ip as IpAddress;
      machine.udpIp = undefined;
      if (machine.asleep || machine.unplugged) internet.isolate(machine.ip);
      machine.nat = underlay.nat(nat, `${name} at ${ip}`);
      machine.watch.changed();
    },
    /** Its router starts anew and knows no mapping any more; the address stays. */
    rebind(name: string): void {
      node(name).nat.rebind();
    },
    /** Nothing gets through but to and from one other machine: an exit of which only its supernode is left. */
    cutUplink(name: string, but?: string): void {
      const machine = node(name);
      machine.uplink = false;
      for (const other of all()) if (other !== machine && other.name !== but) internet.partition(machine.ip, other.ip);
    },
    mendUplink(name: string): void {
      const machine = node(name);
      machine.uplink = true;
      for (const other of all()) if (other !== machine) internet.heal(machine.ip, other.ip);
    },
    /** Its network lets no UDP through. */
    blockUdp(name: string, blocked = true): void {
      node(name).udpBlocked = blocked;
    },
  };
}
