import {
  parseProbeQuestion,
  parseProbeResponse,
  probeAnswer,
  probeRequest,
  vouchInput,
  vouchRequest,
} from '../../../src/core/probe.js';
import { openSodium } from '../../../src/identity/sodium.js';
import { type Endpoint, familyOf, type Port, parseIp } from '../../../src/model/address.js';
import type { Bytes } from '../../../src/model/bytes.js';
import { seconds } from '../../../src/model/time.js';
import { DatagramBatch } from '../../../src/roles/common/datagram-batch.js';
import { Reflector } from '../../../src/roles/supernode/reflector.js';
import { MAX_DATAGRAM_BYTES, MAX_DATAGRAMS } from '../../../src/transport/codec/limits.js';
import type { ConnectedPeer, StreamManager } from '../../../src/transport/stream-manager.js';
import { VirtualClock } from '../../support/virtual-clock.js';
import { concat } from '../engine/mutate-bytes.js';
import { must, mustEqual } from '../engine/oracle.js';
import { Chance } from '../engine/random.js';
import type { Target } from '../engine/target.js';

const { crypto } = await openSodium();
const FROM: readonly Endpoint[] = ['198.51.100.7', '2001:db8::7', '10.0.0.1'].map((text, i) => {
  const ip = parseIp(text);
  if (!ip.ok) throw new Error(text);
  return { ip: ip.value, port: (40_000 + i) as Port };
});

/** Datagrams that come to a supernode's reflector, and answers that come to who asked. */
export const probe: Target = {
  name: 'probe',
  shape: 'bytes',
  words: ['VPNP', 'VPNP\u0001', 'VPNP\u0002'],
  mostBytes: 2_000,
  open: async (seed) => {
    const chance = new Chance(seed);
    const identity = crypto.identityFromSeed(chance.bytes(32));
    const peer = { id: identity.id, probeToken: chance.bytes(16), remote: FROM[0] } as ConnectedPeer;
    const clock = new VirtualClock();
    let moves = 0;
    const streams = { peer: (id: string) => (id === peer.id ? peer : undefined) } as unknown as StreamManager;
    const reflector = new Reflector({ clock, crypto, streams: () => streams, moved: () => void moves++ });
    const vouch = (drawn: Chance): Uint8Array => {
      const nonce = drawn.bytes(16);
      const counter = drawn.below(40);
      return vouchRequest(nonce, counter, identity.id, identity.sign(vouchInput(peer.probeToken, nonce, counter)));
    };
    /** Signatures are the same each time (RFC 8032): only the peer can have made it. */
    const isSigned = ({ nonce, counter, signature }: { nonce: Bytes; counter: number; signature: Bytes }): boolean =>
      Buffer.from(identity.sign(vouchInput(peer.probeToken, nonce, counter))).equals(signature);
    return {
      make: (drawn) => {
        switch (drawn.below(4)) {
          case 0:
            return probeRequest(drawn.bytes(16));
          case 1:
            return probeAnswer(drawn.bytes(16), drawn.of(FROM));
          default:
            return vouch(drawn);
        }
      },
      async run(input) {
        const from = FROM[input.length % FROM.length] as Endpoint;
        const before = moves;
        const answer = reflector.answer(input, from);
        if (answer !== undefined) {
          must(answer.length <= input.length, 'an answer is longer than its question', [input.length, answer.length]);
          mustEqual(parseProbeResponse(answer), from, 'an answer says another address');
        }
        const question = parseProbeQuestion(input);
        const isGenuine = question?.kind === 'vouch' && question.peer === peer.id && isSigned(question);
        if (question?.kind === 'vouch' && answer !== undefined)
          must(isGenuine, 'a vouch that nobody signed is answered');
        must(moves === before || isGenuine, 'a datagram that nobody signed moves a peer');
        must(reflector.addressesOf(peer).length <= 17, 'a peer has more and more addresses');
        const seen = parseProbeResponse(input);
        if (seen !== undefined)
          must(familyOf(seen.ip) === (seen.ip.includes(':') ? 6 : 4) && seen.port > 0, 'no endpoint', seen);
        // Limits fill up again, as they do in life.
        if (input.length % 8 === 0) await clock.advance(seconds(1));
      },
    };
  },
};

/** Datagrams of sessions inside a stream, as they are put together: each is a length and so many bytes. */
export const carriage: Target = {
  name: 'carriage',
  shape: 'bytes',
  words: ['\u0000\u0000', '\u0024\u0000'],
  open: async () => {
    const clock = new VirtualClock();
    return {
      make: (chance) =>
        concat(
          ...Array.from({ length: chance.below(20) }, () =>
            concat(Uint8Array.of(chance.below(256), chance.below(40)), chance.bytes(4)),
          ),
        ),
      run(input) {
        const packets = Array.from(
          { length: Math.floor(input.length / 2) },
          (_, i) => (input[2 * i] ?? 0) + 256 * (input[2 * i + 1] ?? 0),
        );
        let sent = 0;
        let messages = 0;
        const batch = new DatagramBatch(clock, (list) => {
          messages++;
          sent += list.length;
          must(list.length <= MAX_DATAGRAMS, 'too many datagrams in a message', list.length);
          must(
            list.every((one) => one.length > 0 && one.length <= MAX_DATAGRAM_BYTES),
            'a datagram that no message may hold',
          );
          must(list.reduce((sum, one) => sum + one.length, 0) <= 48 * 1024, 'a message larger than a window');
        });
        for (const length of packets.slice(0, 300)) batch.add(new Uint8Array(length));
        batch.flush();
        const fit = packets.slice(0, 300).filter((length) => length > 0 && length <= MAX_DATAGRAM_BYTES).length;
        mustEqual(sent, fit, 'datagrams are lost');
        must(messages <= fit, 'more messages than datagrams');
        must(clock.pending === 0, 'something is left behind', clock.pending);
      },
    };
  },
};
