import t from 'tap';
import { VpndError } from '../../src/model/errors.js';
import { minutes, ms, seconds } from '../../src/model/time.js';
import { type Machine, type OverlayWorld, overlayWorld } from '../support/overlay-world.js';

/** Short, so that waiting for its end is quick. */
const LEASE = minutes(6);

/** Two regions with a supernode and an exit each, besides the client's own; and who is chosen first. */
async function scene(seed = 1) {
  const world = await overlayWorld({
    seed,
    supernodes: ['us', 'eu', 'ap'].map((region) => ({ region, lease: LEASE })),
    exits: [{ region: 'eu' }, { region: 'ap' }],
  });
  await world.up('c0');
  const chosen = await exitOf(world);
  await world.down('c0');
  const first = world.node(chosen);
  const far = world.node(first.name === 'x0' ? 'b' : 'c');
  const other = world.node(first.name === 'x0' ? 'x1' : 'x0');
  return { world, first, far, near: world.node('a'), other };
}

async function exitOf(world: OverlayWorld): Promise<string> {
  const id = (await world.session('c0'))?.exitId;
  return world.of('exit').find((one) => one.id === id)?.name ?? 'none';
}

/** The next change of its kernel that adds something fails. */
function failOnce(machine: Machine, meanwhile: () => void = () => {}): void {
  machine.kernelFault = (change) => {
    if (change === 'reconcile' || (change.put ?? []).length === 0) return undefined;
    machine.kernelFault = () => undefined;
    meanwhile();
    return new VpndError('dataplane', 'the kernel said no');
  };
}

const portsInUse = async (world: OverlayWorld) =>
  (await Promise.all(world.of('supernode').map((one) => world.status(one.name)))).map(
    ({ facts }) => facts?.relay_ports?.split(', ')[1],
  );

const FAILURES: Readonly<Record<string, (s: Awaited<ReturnType<typeof scene>>) => void>> = {
  'the exit’s kernel fails': ({ first }) => failOnce(first),
  'the exit’s disk is full': ({ first }) => first.store.failWrites(new VpndError('disk-full', 'no space left')),
  'the exit refuses': ({ first }) => {
    first.kernelFault = () => new VpndError('exit-refused', 'its owner said no');
  },
  'the exit is frozen': ({ world, first }) => world.sleep(first.name),
  'the exit loses power': ({ world, first }) => world.crash(first.name, 'power-off'),
  'the relay before the exit fails': ({ far }) => failOnce(far),
  'the disk of the exit’s supernode is full': ({ far }) =>
    far.store.failWrites(new VpndError('disk-full', 'no space left')),
  'the client’s own relay fails': ({ near }) => failOnce(near),
  'the exit’s supernode dies half-way': ({ world, first, far }) => failOnce(first, () => world.crash(far.name)),
  'the exit’s supernode dies after the exit has applied': ({ world, first, far }) => {
    first.tampering.sends = (message) => {
      if (message.kind !== 'command-response') return message;
      delete first.tampering.sends;
      world.crash(far.name);
      return message;
    };
  },
  'the answer of the exit’s supernode never comes': ({ world, far }) => {
    far.tampering.answers = (response) => {
      delete far.tampering.answers;
      world.partition('a', far.name);
      return response;
    };
  },
};

for (const [what, cause] of Object.entries(FAILURES)) {
  t.test(`${what}: the next exit is taken, and nothing is left of the first`, async (t) => {
    const s = await scene();
    const { world, first, other, far } = s;
    cause(s);
    t.equal(await world.refusal('c0'), undefined, 'the client hears of nothing');
    if (what.includes('own relay')) t.ok(await exitOf(world));
    else t.equal(await exitOf(world), other.name);
    t.match(world.way('c0'), { ok: true });

    for (const one of world.all()) {
      one.kernelFault = () => undefined;
      one.store.failWrites(undefined);
    }
    await world.advance(seconds(60));
    const reached = !what.includes('never comes') && (await world.connected(first.name)) && far.process !== undefined;
    if (reached && (await exitOf(world)) !== first.name)
      t.same([...first.sessionUnits(), ...first.sessionRecords()], [], 'where the first exit can be told, it has been');
    t.match(await world.down('c0'), { wasUp: true, releasedEverywhere: true });

    world.wake(first.name);
    world.heal('a', far.name);
    if (far.process === undefined) await world.restart(far.name);
    if (first.process === undefined) await world.restart(first.name);
    await world.untilConnected([first.name, far.name]);
    await world.advance(LEASE + minutes(1));
    t.same(world.residue(), [], 'nothing anywhere once leases are over');
    t.same(await portsInUse(world), ['0 in use', '0 in use', '0 in use']);
  });
}

t.test('an answer that gets lost is asked for again, and is the same', async (t) => {
  const { world, first } = await scene();
  let lost = 0;
  first.tampering.sends = (message) => {
    if (message.kind !== 'command-response' || lost > 0) return message;
    lost++;
    return undefined;
  };
  const began = world.clock.monotonic();
  await world.up('c0');
  t.equal(await exitOf(world), first.name);
  t.equal(lost, 1);
  t.ok(world.clock.monotonic() - began >= 5_000);
  t.equal(first.sessionUnits().length, 1);
  await world.down('c0');
  t.same(world.residue(), []);
});

t.test('every exit fails: one clear error, and nothing is left', async (t) => {
  const { world, first, other } = await scene();
  for (const exit of [first, other]) exit.kernelFault = () => new VpndError('dataplane', 'the kernel said no');
  const before = world.print();
  t.match(await world.refusal('c0'), { code: 'exit-refused', message: /the kernel said no/ });
  t.match(await world.status('c0'), { sessions: [] });
  t.equal(world.print(), before);
  t.same(await portsInUse(world), ['0 in use', '0 in use', '0 in use']);
});

t.test('a supernode that cannot write loses no port and no address to attempts that fail', async (t) => {
  const world = await overlayWorld({
    base: { blockLength: 29 },
    supernodes: [
      { region: 'us', sessionCapacity: 6 },
      { region: 'eu', sessionCapacity: 6 },
    ],
  });
  for (const name of ['a', 'b']) {
    world.node(name).store.failWrites(new VpndError('disk-full', 'no space left'));
    // Six addresses, each resting for five minutes after it was given back.
    for (let n = 0; n < 12; n++) {
      t.match(await world.refusal('c0'), { code: /disk-full|exit-refused/ }, `${name} is full`);
      await world.advance(minutes(1));
    }
    world.node(name).store.failWrites(undefined);
  }
  t.same(await portsInUse(world), ['0 in use', '0 in use']);
  t.equal(await world.refusal('c0'), undefined);
});

t.test('a relay that cannot be removed keeps its port until it can', async (t) => {
  const { world, near, far } = await scene();
  for (const machine of [near, far]) {
    await world.up('c0');
    const port = machine.sessionUnits()[0]?.split(' ')[2];
    t.ok(port, 'a relay port');
    machine.kernelFault = (change) =>
      change !== 'reconcile' && (change.remove ?? []).length > 0
        ? new VpndError('dataplane', 'nft is busy')
        : undefined;
    t.match(await world.down('c0'), { releasedEverywhere: false }, 'the client is told the truth');
    t.equal(machine.sessionUnits().length, 1);
    t.match(await world.status(machine.name), { facts: { relay_ports: /, 1 in use/ } }, 'nobody else gets its port');
    await world.advance(minutes(10));
    t.match(await world.status(machine.name), { facts: { relay_ports: /, 1 in use/ } });
    machine.kernelFault = () => undefined;
    await world.advance(minutes(1));
    t.same(world.residue(), [], 'removed as soon as it can be');
    t.same(await portsInUse(world), ['0 in use', '0 in use', '0 in use']);
  }
});

t.test('a client that gives up leaves nothing either', async (t) => {
  const { world, first } = await scene();
  first.kernelTakes = ms(800);
  const abort = new AbortController();
  const asked = world.upSoon('c0', {}, abort.signal).then(
    () => 'up',
    () => 'given up',
  );
  await world.advance(500);
  abort.abort(new VpndError('closed', 'Ctrl-C'));
  t.equal(await world.clock.run(asked), 'given up');
  t.equal(world.node('c0').print(), '');
  await world.advance(seconds(10));
  t.same(world.residue(), [], 'the grant that comes later is given back at once');
});

t.test('vpnd down while the request is under way leaves nothing', async (t) => {
  const { world, first } = await scene();
  first.kernelTakes = ms(800);
  const asked = world.upSoon('c0').then(
    () => 'up',
    () => 'given up',
  );
  await world.advance(500);
  await world.down('c0');
  t.equal(await world.clock.run(asked), 'given up');
  await world.advance(seconds(10));
  t.same(world.residue(), []);
});

t.test('a client whose stream breaks during its request gets no session it does not know', async (t) => {
  const { world, first, near } = await scene();
  first.kernelTakes = ms(800);
  const asked = world.refusal('c0');
  await world.advance(500);
  world.internet.reset(near.ip, world.node('c0').ip);
  t.match(await asked, { code: 'closed' });
  await world.advance(seconds(10));
  t.same(world.residue(), []);
  t.same(await portsInUse(world), ['0 in use', '0 in use', '0 in use']);
});
