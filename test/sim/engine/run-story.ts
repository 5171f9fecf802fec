import { createHash } from 'node:crypto';
import type { Crypto } from '../../../src/core/ports/crypto.js';
import type { Port } from '../../../src/model/address.js';
import { minutes, ms, seconds } from '../../../src/model/time.js';
import type { ForwardingPorts } from '../../../src/roles/ports.js';
import type { NatBehaviour } from '../../support/overlay-world/nat.js';
import { type OverlayWorld, overlayWorld } from '../../support/overlay-world.js';
import { epochOnDisk, Judge } from './judge.js';
import { Stage } from './stage.js';
import type { Router, Story } from './story.js';

/** Short, so that sessions that nobody renews end within a story. */
export const LEASE = seconds(90);
/** Everybody who wants a tunnel has one that carries packets so long after the last fault, at the latest. */
export const CONVERGES = minutes(5);
/** From then on: every lease has run out, every port and address is back. */
const REST = ms(LEASE + minutes(1));

export interface Failure {
  /** The first number is the invariant's; 0 for a mistake of the program, 6 for what did not come right in the end. */
  readonly found: readonly string[];
  /** After which of the story's steps; undefined once they were over. */
  readonly step: number | undefined;
  readonly at: number;
}

export interface Outcome {
  readonly failure: Failure | undefined;
  /** Of everything that was logged and of every kernel and store after each step. */
  readonly trace: string;
  /** Tasks of the virtual clock: timers, and things that arrived. */
  readonly events: number;
  readonly virtualMs: number;
  /** Milliseconds of one role each. */
  readonly roleMs: number;
  /** From the end of the faults until everybody was served; undefined where it did not come to that. */
  readonly healedAfter: number | undefined;
}

const nat = (router: Router): NatBehaviour | 'none' =>
  router === 'none' ? 'none' : { ...router, life: ms(router.life) };

/** Plays a story. Deterministic: the same story gives the same trace. */
export async function runStory(story: Story): Promise<Outcome> {
  const { seed, cast } = story;
  const world = await overlayWorld({
    seed,
    lease: LEASE,
    base: { blockLength: 28 },
    // Few, so that they are used again.
    supernodes: cast.supernodes.map((one) => ({ ...one, relayPorts: { from: 40_000 as Port, to: 40_019 as Port } })),
    exits: cast.exits.map(({ router, home, ...one }) => ({
      ...one,
      nat: nat(router),
      ...(home === undefined ? {} : { home }),
    })),
    clients: cast.clients.map(({ router, home, ...one }) => ({
      ...one,
      nat: nat(router),
      ...(home === undefined ? {} : { home }),
    })),
    ports: (_, ports) => ({ ...ports, crypto: { ...ports.crypto, ...cheapKem(ports) } }),
  });
  const hash = createHash('sha256');
  let hashed = 0;
  const note = () => {
    for (const { at, node, level, text, fields } of world.lines.slice(hashed)) {
      const { err, ...rest } = fields;
      hash.update(
        `${at} ${node} ${level} ${text} ${JSON.stringify(rest)} ${err instanceof Error ? err.message : ''}\n`,
      );
    }
    hashed = world.lines.length;
    hash.update(world.print());
  };
  const control = story.kind === 'control';
  if (control) {
    for (const { name } of world.of('client')) await world.up(name);
    // Paths are found, and standbys stand by.
    await world.advance(seconds(40));
  }
  const traffic = new Map(world.of('client').map(({ name }) => [name, world.traffic(name, control ? 4 : 1)]));
  const stage = new Stage(world, story.kind);
  const judge = new Judge(world, stage, { lease: LEASE, traffic: control ? traffic : undefined });
  let healedAfter: number | undefined;
  const over = (found: readonly string[], step?: number): Outcome => ({
    failure: found.length === 0 ? undefined : { found, step, at: world.clock.monotonic() },
    trace: hash.digest('hex').slice(0, 32),
    events: world.clock.ran,
    virtualMs: world.clock.monotonic(),
    roleMs: world.clock.monotonic() * world.all().length,
    healedAfter,
  });

  for (const [index, { deed, wait }] of story.steps.entries()) {
    stage.perform(deed);
    await world.advance(wait);
    note();
    const found = await judge.wrong();
    if (found.length > 0) return over(found, index);
  }

  const began = world.clock.monotonic();
  stage.heal();
  const end = new Ending(world, stage, traffic);
  while (world.clock.monotonic() - began < CONVERGES && (stage.busy || (await end.unserved()).length > 0)) {
    await world.advance(seconds(3));
    const found = await judge.wrong();
    if (found.length > 0) return over(found);
  }
  note();
  if (stage.asking.size > 0) return over([`6: no answer for ${[...stage.asking.keys()].join(', ')}`]);
  const unserved = await end.unserved();
  if (unserved.length > 0) return over(unserved);
  healedAfter = world.clock.monotonic() - began;

  judge.isOver = true;
  for (const one of traffic.values()) one.stop();
  await end.everybodyDown();
  await world.advance(REST);
  note();
  return over([...(await judge.wrong()), ...(await end.residue())]);
}

/** What must hold once the faults have stopped. */
class Ending {
  constructor(
    private readonly world: OverlayWorld,
    private readonly stage: Stage,
    private readonly traffic: ReadonlyMap<string, { resumedAfter(at: number): number | undefined }>,
  ) {}

  /** Who wants a tunnel and has none that carries packets, and who does not know yet who is shut out. */
  async unserved(): Promise<readonly string[]> {
    const { world, stage } = this;
    const { base } = world;
    const found: string[] = [];
    const epoch = base.process === undefined ? undefined : (await base.running.local.status()).facts?.revocation_epoch;
    for (const machine of world.all()) {
      const { name, role } = machine;
      if (machine.process === undefined) found.push(`6: ${name} does not run`);
      else if (role === 'supernode' && !stage.shutOut.has(name)) {
        const known = epochOnDisk(world, machine);
        if (epoch !== undefined && known !== Number(epoch))
          found.push(`6: ${name} has the list of who is shut out until ${known}, and base until ${epoch}`);
      }
      const wanted = role === 'client' && machine.store.facts.get('wish') !== undefined && !stage.shutOut.has(name);
      if (!wanted) continue;
      const since = world.clock.monotonic() - 3_000;
      if ((this.traffic.get(name)?.resumedAfter(since) ?? 3_000) < 3_000) continue;
      const way = world.way(name);
      found.push(`6: ${name}: ${way.ok ? `no answer over ${way.hops.join(' ')}` : way.why}`);
    }
    return found;
  }

  async everybodyDown(): Promise<void> {
    const { world } = this;
    for (const { name } of world.of('client')) await world.outcome(Promise.resolve(world.downSoon(name)));
  }

  /** What is left of any session, at those who still belong to the overlay. */
  async residue(): Promise<readonly string[]> {
    const { world } = this;
    const left = world.residue().map((what) => `6: left over: ${what}`);
    for (const machine of world.of('supernode')) {
      const ports = (await machine.running.local.status()).facts?.relay_ports ?? '';
      if (!/ 0 in use/.test(ports)) left.push(`6: ${machine.name}: relay ports ${ports}`);
    }
    return left;
  }
}

/** ML-KEM in so far as its users see it: a key pair, a secret that only the key's owner reads, sizes. A hundred times as fast. */
function cheapKem({
  random,
  crypto,
}: ForwardingPorts): Pick<Crypto, 'kemKeyPair' | 'kemEncapsulate' | 'kemDecapsulate'> {
  const padded = (bytes: Uint8Array, length: number) => {
    const whole = new Uint8Array(length);
    whole.set(bytes);
    return whole;
  };
  const PUBLIC = 1184;
  const CIPHERTEXT = 1088;
  const secretOf = (publicKey: Uint8Array, salt: Uint8Array) =>
    crypto.sha256(Uint8Array.from([...publicKey.subarray(0, 32), ...salt.subarray(0, 32)]));
  return {
    kemKeyPair: () => {
      const secretKey = padded(random.bytes(32), 2400);
      return { secretKey, publicKey: padded(crypto.sha256(secretKey.subarray(0, 32)), PUBLIC) };
    },
    kemEncapsulate: (publicKey) => {
      const salt = random.bytes(32);
      return { ciphertext: padded(salt, CIPHERTEXT), sharedSecret: secretOf(publicKey, salt) };
    },
    kemDecapsulate: (secretKey, ciphertext) => secretOf(crypto.sha256(secretKey.subarray(0, 32)), ciphertext),
  };
}
