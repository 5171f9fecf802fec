/**
 * What a client's connection, its tunnels, their pulse and their path can become, and why. The roles check each step
 * they take against this, and docs/sessions.md draws it: neither can go its own way.
 */
export const MACHINES = {
  /** The connection: what the user sees. */
  connection: [
    ['idle', 'requesting', 'vpnd up'],
    ['idle', 'up', 'a restarted daemon finds its tunnel in the kernel'],
    ['idle', 'waiting', 'a restarted daemon finds that its session has ended'],
    ['requesting', 'up', 'the handshake came through'],
    ['requesting', 'idle', 'no exit could be had'],
    ['up', 'waiting', 'nothing comes back, or the session ended, and there is no standby'],
    ['waiting', 'up', 'the exit answers again, or another one does'],
    ['up', 'idle', 'vpnd down'],
    ['waiting', 'idle', 'vpnd down'],
  ],
  /** One tunnel: what it is for. */
  tunnel: [
    ['none', 'active', 'the first one'],
    ['none', 'standby', 'beside another'],
    ['standby', 'active', 'failover, rotation'],
    ['retiring', 'active', 'failover, where there is no standby'],
    ['active', 'retiring', 'rotation: what is open goes on over it'],
    ['active', 'dead', 'failover: connections are reset'],
    ['retiring', 'dead', 'the exit it goes to is of no use any more'],
    ['standby', 'none', 'its exit died, or a better one is there'],
    ['retiring', 'none', 'nothing is open over it, or 120 s'],
    ['dead', 'none', '120 s, or its place is needed'],
    ['active', 'none', 'vpnd down'],
  ],
  /** What is heard through a tunnel (src/core/liveness.ts). */
  pulse: [
    ['alive', 'silent', 'sends and hears nothing for 600 ms, a probe included'],
    ['silent', 'dead', 'three probes, 200 ms apart, unanswered'],
    ['alive', 'dead', 'an idle tunnel: its probes unanswered'],
    ['silent', 'alive', 'anything comes in'],
    ['dead', 'alive', 'anything comes in'],
  ],
  /** The way its packets take. */
  path: [
    ['relay', 'direct', 'RELAY_UPDATE, and packets came through'],
    ['relay2', 'direct', 'RELAY_UPDATE, and packets came through'],
    ['direct', 'relay', 'silent, another network, or asked for'],
    ['direct', 'relay2', 'silent, another network, or asked for'],
    ['relay', 'stream', 'no UDP gets through'],
    ['relay2', 'stream', 'no UDP gets through'],
    ['stream', 'relay', 'UDP gets through again'],
    ['stream', 'relay2', 'UDP gets through again'],
  ],
} as const satisfies Readonly<Record<string, readonly (readonly [from: string, to: string, why: string])[]>>;

export type Machine = keyof typeof MACHINES;

/** Whether a step is one of those above; staying is no step. */
export const mayBecome = (machine: Machine, from: string, to: string): boolean =>
  from === to || MACHINES[machine].some((step) => step[0] === from && step[1] === to);

/** A Mermaid state diagram. */
export function drawMachine(machine: Machine): string {
  const lines = MACHINES[machine].map(([from, to, why]) => `    ${from} --> ${to} : ${why.replaceAll(':', ',')}`);
  return ['stateDiagram-v2', ...lines].join('\n');
}
