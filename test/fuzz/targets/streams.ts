import type { AcceptedStream, StreamEnd } from '../../../src/core/ports/network.js';
import { VpndError } from '../../../src/model/errors.js';
import type { ControlMessage } from '../../../src/model/messages.js';
import { decodeControl, encodeControl } from '../../../src/transport/codec/control.js';
import { FramedStream } from '../../../src/transport/framed-stream.js';
import { endpoint } from '../../support/fake-stream.js';
import { streamWorld } from '../../support/stream-world.js';
import { isMistake, must, Violation } from '../engine/oracle.js';
import { readScript, writeScript } from '../engine/script.js';
import type { Target } from '../engine/target.js';
import { controlMessages } from './wire.js';

const MOST_STEPS = 12;
/** Who sends: strangers, one that begins with an AuthRequest of its own, and two that are authenticated. */
const STRANGERS = 2;
const SIGNED = ['role', 'region', 'membership', 'signature', 'timestamp', 'clientNonce', 'wireguardKey'] as const;

/**
 * The stream manager as whoever reaches the port meets it: bytes of frames from strangers, from whoever changes a genuine
 * AuthRequest on its way, and from nodes that have authenticated and then say anything.
 */
export const streams: Target = {
  name: 'streams',
  shape: 'protobuf',
  words: ['eu', 'exit', 'client', 'test', '10.200.0.2', 'no-exit'],
  mostBytes: 20_000,
  open: async (seed) => {
    const world = streamWorld(seed);
    const limits = { address: { perMinute: 1e9, burst: 1e9 }, peer: { perMinute: 1e9, burst: 1e9 } };
    const connected: string[] = [];
    const supervisor = world.supervisor(
      { limits },
      {
        connected: (peer) => connected.push(`${peer.id} ${peer.role} ${peer.region}`),
        disconnected: () => {},
        exitRequest: async () => {
          throw new VpndError('no-exit', 'none');
        },
        info: async () => ({ kind: 'exits', exits: [] }),
        news: () => {},
        datagrams: () => {},
      },
    );
    const nodes = [world.node('exit'), world.node('client')] as const;
    const allowed = new Set(nodes.map((node) => `${node.id} ${node.self.role} ${node.self.region}`));
    let port = 1_024;

    /** A stream that has just been accepted, and what its other end was told. */
    const connect = () => {
      const told: ControlMessage[] = [];
      let end: StreamEnd | undefined;
      const challenge = world.random.bytes(32);
      port = port >= 65_000 ? 1_024 : port + 1;
      const stream = new FramedStream(
        endpoint(`198.51.100.${port % 250}:${port}`),
        {
          write(bytes, taken) {
            const message = decodeControl(bytes);
            if (!message.ok || !message.value.known) throw new Violation('a supervisor sends what nobody can read');
            told.push(message.value.value);
            taken();
          },
          read: () => {},
          finish: (error) => {
            end = { by: 'local', ...(error && { error }) };
          },
        },
        world.log,
      );
      const accepted: AcceptedStream = { stream, challenge, serverKeyHash: world.serverKeyHash, certified: undefined };
      supervisor.manager.accept(accepted);
      return {
        told,
        challenge,
        stream,
        get end() {
          return end;
        },
        /** The connection breaks, whatever state it is in. */
        cut() {
          stream.ended({ by: 'lost' });
        },
      };
    };
    type Connection = ReturnType<typeof connect>;
    const members: (Connection | undefined)[] = [undefined, undefined];

    const member = async (which: number): Promise<Connection> => {
      const known = members[which];
      if (known !== undefined && known.end === undefined) return known;
      const made = connect();
      const node = nodes[which] ?? nodes[0];
      made.stream.arrived(encodeControl(world.authRequest(node, supervisor, made.challenge)));
      await world.clock.advance(0);
      must(made.told[0]?.kind === 'auth-response', 'an honest node is not let in', made.end?.error?.message);
      members[which] = made;
      return made;
    };

    const valid = controlMessages(seed, 20);
    const step = async (whom: number, message: Uint8Array): Promise<void> => {
      if (whom >= STRANGERS) {
        const from = await member(whom - STRANGERS);
        from.stream.arrived(message);
        from.told.length = Math.min(from.told.length, 1);
        return;
      }
      const stranger = connect();
      const before = connected.length;
      let bytes = message;
      if (whom === 1) {
        // A genuine request, with whatever came in the place of one of its fields.
        const genuine = world.authRequest(nodes[0], supervisor, stranger.challenge);
        const other = decodeControl(message);
        if (other.ok && other.value.known && other.value.value.kind === 'auth-request') {
          const field = SIGNED[message.length % SIGNED.length] ?? 'role';
          bytes = encodeControl({ ...genuine, [field]: other.value.value[field] });
        } else bytes = encodeControl(genuine);
        stranger.stream.arrived(bytes);
        await world.clock.advance(0);
        for (const who of connected.slice(before)) must(allowed.has(who), 'somebody is let in as another', who);
      } else {
        stranger.stream.arrived(bytes);
        await world.clock.advance(0);
        must(connected.length === before, 'a stranger is let in');
        must(stranger.told.length === 0, 'a stranger is told something', stranger.told);
      }
      stranger.cut();
    };

    return {
      make: (chance) =>
        writeScript(
          Array.from({ length: chance.below(3) + 1 }, () => ({
            whom: chance.below(4),
            message: chance.of(valid),
            live: 0,
            wait: chance.below(8),
          })),
        ),
      async run(input) {
        for (const { whom, message, wait } of readScript(input, MOST_STEPS)) {
          await step(whom % 4, message);
          if (wait > 4) await world.clock.advance(wait * 100);
        }
        await world.clock.advance(1);
        const broken = world.log.lines.filter(({ level, fields }) => level === 'error' || isMistake(fields.err));
        (world.log.lines as unknown[]).length = 0;
        const [first] = broken;
        if (first !== undefined)
          throw new Violation(`${first.text}: ${String((first.fields.err as Error)?.stack ?? '')}`);
        must(supervisor.manager.count() <= nodes.length, 'more peers than nodes');
        must(world.clock.pending < 64, 'timers pile up', world.clock.pending);
        connected.length = 0;
        supervisor.events.length = 0;
      },
      close: () => supervisor.manager.close(),
    };
  },
};
