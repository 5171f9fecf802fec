import type { Crypto } from '../../../src/core/ports/crypto.js';
import type { ControlStream, DialTarget, Network } from '../../../src/core/ports/network.js';
import type { UnaryName } from '../../../src/model/messages.js';
import { seconds } from '../../../src/model/time.js';
import type { ForwardingPorts } from '../../../src/roles/ports.js';
import { decodeControl } from '../../../src/transport/codec/control.js';
import { UNARY } from '../../../src/transport/codec/unary.js';
import { violations } from '../../support/overlay-world/invariants.js';
import { type Machine, type OverlayWorld, overlayWorld } from '../../support/overlay-world.js';
import { concat } from '../engine/mutate-bytes.js';
import { checkRefusal, isMistake, must, Violation } from '../engine/oracle.js';
import { joined, readScript, type Step, writeScript } from '../engine/script.js';
import type { Target } from '../engine/target.js';
import { enlivened, type LiveNames, liveNames, Overheard } from './live-names.js';
import { controlMessages, unaryRequests } from './wire.js';

const MOST_STEPS = 12;
/** A world as others have left it is thrown away after so many scripts: what breaks it can then be replayed. */
const SCRIPTS_EACH = 300;
/** From here on a step is a call instead of a message on a stream. */
const CALLS_FROM = 96;
const METHODS = Object.keys(UNARY) as UnaryName[];

/** One end of a stream: what is sent here comes from that node, as far as its other end can tell. */
interface End {
  readonly from: string;
  readonly stream: ControlStream;
}

/** Everybody who can be dialled, and how each node shows who it is. */
interface Wires {
  readonly ends: End[];
  readonly targets: Map<string, { readonly network: Network; readonly target: DialTarget }>;
}

/**
 * A whole overlay with sessions in it, in which any authenticated node, its supervisor and base itself say anything to
 * whoever they have a stream to, about sessions, peers and keys that are there. What no malice may bring about is looked at
 * after every script: mistakes of the program, packets outside a tunnel that is wanted, kernels that differ from ledgers,
 * ports and addresses with two owners, state without bounds.
 */
export const overlay: Target = {
  name: 'overlay',
  shape: 'protobuf',
  words: ['eu', 'us', 'direct', '10.200.0.2', 'no-exit', 'revoked', 'draining', 'pq'],
  mostBytes: 20_000,
  mostGrowth: 64,
  open: async (seed) => {
    const messages = controlMessages(seed, 30);
    const requests = unaryRequests(seed, 10);
    const heard = new Overheard();
    let wires: Wires = { ends: [], targets: new Map() };
    let world: OverlayWorld | undefined;
    let worlds = 0;
    let history: Uint8Array[] = [];

    const fresh = async (): Promise<OverlayWorld> => {
      wires = { ends: [], targets: new Map() };
      history = [];
      const made = await overlayWorld({
        seed: seed + worlds++,
        supernodes: [{ region: 'us' }, { region: 'eu' }],
        exits: [{ region: 'eu' }, { region: 'eu', nat: 'random' }],
        clients: [{ region: 'us', standby: true }, { region: 'eu' }],
        ports: (machine, ports) => tapped(machine, ports, wires, heard),
      });
      for (const { name } of made.of('client')) await made.outcome(made.up(name));
      return made;
    };

    const act = async (here: OverlayWorld, { whom, message, live, wait }: Step, names: LiveNames): Promise<void> => {
      if (whom >= CALLS_FROM) {
        const known = [...wires.targets.values()];
        const method = METHODS[whom % METHODS.length] ?? 'registerPeer';
        const at = known[(live + wait) % Math.max(1, known.length)];
        const read = UNARY[method].request.decode(message);
        if (!read.ok || at === undefined) return;
        const asked = enlivened(read.value, live, message.length, names, heard);
        // Half of them show nobody's certificate.
        const { identity, ...anonymous } = at.target;
        const target = identity === undefined || live % 2 === 0 ? anonymous : at.target;
        const answer = await here.outcome(at.network.call(target, method, asked as never, { timeout: seconds(2) }));
        if (answer instanceof Error) checkRefusal(answer);
        return;
      }
      const read = decodeControl(message);
      wires.ends.splice(0, wires.ends.length - 64);
      const end = wires.ends[whom % Math.max(1, wires.ends.length)];
      if (!read.ok || !read.value.known || end === undefined) return;
      const said = enlivened(read.value.value, live, message.length, names, heard);
      if (end.stream.send(said) === 'closed') wires.ends.splice(wires.ends.indexOf(end), 1);
      await here.advance(wait > 100 ? wait * 50 : 15 + wait);
    };

    const look = (here: OverlayWorld): void => {
      for (const { level, node, text, fields } of here.lines) {
        const { err } = fields;
        const isInside = isMistake(err) || (level === 'error' && err instanceof Error && !('code' in err));
        if (isInside) throw new Violation(`${node}: ${text}: ${String((err as Error).stack)}`);
      }
      here.lines.length = 0;
      must(here.leaks.length === 0, 'a packet left outside its tunnel', here.leaks);
      const found = violations(here.all());
      must(found.length === 0, 'what must always hold does not', found);
      for (const machine of here.all()) {
        must(machine.process !== undefined, 'a daemon is gone', machine.name);
        must(machine.kernel.units().length < 300, 'a kernel fills up', machine.name);
        must(machine.store.ledger.sessions().length < 3_000, 'a ledger fills up', machine.name);
        must(machine.store.facts.names('').length < 3_000, 'a store fills up', machine.name);
      }
      must(here.clock.pending < 1_500, 'timers pile up', here.clock.pending);
    };

    return {
      make: (chance) =>
        writeScript(
          Array.from({ length: chance.below(4) + 1 }, () => {
            const isCall = chance.oneIn(5);
            const whom = isCall ? CALLS_FROM + chance.below(128 - CALLS_FROM) : chance.below(CALLS_FROM);
            const method = METHODS[whom % METHODS.length] ?? 'registerPeer';
            return {
              whom,
              message: isCall ? chance.of(requests.get(method) ?? messages) : chance.of(messages),
              live: chance.below(128),
              wait: chance.oneIn(12) ? 101 + chance.below(26) : chance.below(60),
            };
          }),
        ),
      async run(input) {
        if (world === undefined || history.length >= SCRIPTS_EACH) world = await fresh();
        history.push(input.slice());
        const names = liveNames(world);
        for (const step of readScript(input, history.length === 1 ? 10_000 : MOST_STEPS)) await act(world, step, names);
        // A daemon that is told two things at once is through with both.
        await world.advance(50);
        if (history.length % 40 === 0) {
          await world.advance(31_000);
          for (const { name } of world.of('client')) await world.outcome(world.up(name));
        }
        try {
          if (history.length % 8 === 0) await world.advance(2_000);
          look(world);
        } catch (thrown) {
          // What is broken stays so: the next script begins with another world.
          world = undefined;
          throw thrown;
        }
      },
      history: () => joined(history),
    };
  },
};

/** Something with the shape of ML-KEM-768, which would take nine tenths of the time: its secret stands in its key. */
function cheapKem(random: ForwardingPorts['random']): Pick<Crypto, 'kemKeyPair' | 'kemEncapsulate' | 'kemDecapsulate'> {
  const sized = (seed: Uint8Array, length: number) => concat(seed, new Uint8Array(length - seed.length));
  return {
    kemKeyPair() {
      const seed = random.bytes(32);
      return { publicKey: sized(seed, 1_184), secretKey: sized(seed, 2_400) };
    },
    kemEncapsulate(publicKey) {
      if (publicKey.length !== 1_184) return undefined;
      return { ciphertext: sized(publicKey.slice(0, 32), 1_088), sharedSecret: publicKey.slice(0, 32) };
    },
    kemDecapsulate: (_, ciphertext) => (ciphertext.length === 1_088 ? ciphertext.slice(0, 32) : undefined),
  };
}

/** The same ports, with every stream noted, and everything that is sent on it heard. */
function tapped({ name }: Machine, ports: ForwardingPorts, wires: Wires, heard: Overheard): ForwardingPorts {
  const tap = (stream: ControlStream): ControlStream => {
    wires.ends.push({ from: name, stream });
    return {
      remote: stream.remote,
      send(message) {
        heard.hear(message);
        return stream.send(message);
      },
      offer: (message) => stream.offer(message),
      listen: (listener) => stream.listen(listener),
      end: (error) => stream.end(error),
    };
  };
  const { network } = ports;
  const note = (target: DialTarget): void => {
    const who = `${name} ${target.address.host} ${target.identity === undefined}`;
    if (!wires.targets.has(who)) wires.targets.set(who, { network, target });
  };
  return {
    ...ports,
    crypto: { ...ports.crypto, ...cheapKem(ports.random) },
    network: {
      dialControl: async (target, options) => {
        note(target);
        const dialed = await network.dialControl(target, options);
        return { ...dialed, stream: tap(dialed.stream) };
      },
      call: (target, method, request, options) => {
        note(target);
        return network.call(target, method, request, options);
      },
      fetchCa: (address, hash, options) => network.fetchCa(address, hash, options),
      serve: (options) =>
        network.serve({
          ...options,
          control: (accepted) => options.control({ ...accepted, stream: tap(accepted.stream) }),
        }),
      close: () => network.close(),
    },
  };
}
