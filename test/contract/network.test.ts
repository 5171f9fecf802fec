import fc from 'fast-check';
import tap from 'tap';
import type { DialTarget, ExpectedServer, ServeOptions, Server, TlsIdentity } from '../../src/core/ports/network.js';
import type { HostPort, Port } from '../../src/model/address.js';
import { VpndError } from '../../src/model/errors.js';
import { type SessionId, sessionIdOf } from '../../src/model/ids.js';
import type { ControlMessage, UnaryCalls } from '../../src/model/messages.js';
import { days, hours, instantOf, ms, seconds } from '../../src/model/time.js';
import { CONTROL, UNARY_MESSAGES } from '../support/message-arbitraries.js';
import {
  ANY_PORT,
  Door,
  Ear,
  grpcBench,
  ipOf,
  memoryBench,
  type NetworkBench,
  peerOf,
} from '../support/network-bench.js';
import { type TestCa, testCa } from '../support/test-ca.js';

const PATIENCE = { timeout: seconds(5) };
const A = peerOf(10);
const SUPERNODE_A: ExpectedServer = { kind: 'supernode', id: A };
const BASE: ExpectedServer = { kind: 'base' };
const SEED = 20260101;

/** One bench with a CA, a server for supernode A, and a way to dial it. */
interface Scene extends NetworkBench {
  readonly ca: TestCa;
  readonly door: Door;
  start(options?: Partial<ServeOptions>): Promise<Server>;
  target(server: Server, more?: Partial<DialTarget>): DialTarget;
}

async function scene(bench: NetworkBench, t: Pick<typeof tap, 'teardown'>): Promise<Scene> {
  const ca = await testCa(bench.certificates, bench.now());
  const identity = await ca.identity(SUPERNODE_A);
  const door = new Door();
  const servers: Server[] = [];
  t.teardown(async () => {
    await Promise.all(servers.map((server) => server.close()));
    await bench.close();
  });
  return {
    ...bench,
    ca,
    door,
    async start(options = {}) {
      const server = await bench.server.serve({
        listen: { host: bench.serverIp, port: ANY_PORT },
        ca: ca.authority.certificate,
        identity: () => identity,
        control: door.accept,
        unary: {},
        ...options,
      });
      servers.push(server);
      return server;
    },
    target: (server, more = {}) => ({
      address: addressOf(server),
      expect: SUPERNODE_A,
      ca: ca.authority.certificate,
      ...more,
    }),
  };
}

const addressOf = (server: Server): HostPort => ({ host: server.address.ip, port: server.address.port });

async function refusal(work: Promise<unknown>): Promise<VpndError> {
  try {
    await work;
  } catch (thrown) {
    if (thrown instanceof VpndError) return thrown;
    throw thrown;
  }
  throw new Error('it was not refused');
}

for (const bench of [grpcBench, memoryBench]) {
  tap.test(`${bench().name} network`, async (t) => {
    t.test('a dialler gets the challenge, the key hash and an echo of every kind of message', async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start();
      const dialed = await s.wait(s.client.dialControl(s.target(server), PATIENCE));
      const accepted = await s.door.next();
      t.equal(dialed.challenge.length, 32);
      t.strictSame(dialed.challenge, accepted.challenge);
      t.strictSame(dialed.serverKeyHash, accepted.serverKeyHash);
      t.equal(accepted.certified, undefined);
      t.strictSame(dialed.stream.remote, server.address);

      const echo = new Ear(accepted.stream, (message, stream) => t.equal(stream.send(message), 'sent'));
      const ear = new Ear(dialed.stream);
      const sent = Object.values(CONTROL).flatMap((kind) =>
        fc.sample<ControlMessage>(kind as fc.Arbitrary<ControlMessage>, { seed: SEED, numRuns: 3 }),
      );
      for (const message of sent) t.equal(dialed.stream.send(message), 'sent');
      await s.wait(ear.heard(sent.length));
      t.strictSame(ear.messages, sent);

      dialed.stream.end();
      t.equal(dialed.stream.send({ kind: 'pong', id: 1 }), 'closed');
      t.strictSame(await s.wait(ear.ended), { by: 'local' });
      t.strictSame(await s.wait(echo.ended), { by: 'remote' });
    });

    t.test('every stream has a challenge of its own', async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start();
      const dials = await s.wait(Promise.all([1, 2, 3].map(() => s.client.dialControl(s.target(server), PATIENCE))));
      t.equal(new Set(dials.map((dialed) => Buffer.from(dialed.challenge).toString('hex'))).size, 3);
      for (const { stream } of dials) stream.end();
    });

    t.test('messages that came before anybody listened are delivered first, in order', async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start();
      const { stream } = await s.wait(s.client.dialControl(s.target(server), PATIENCE));
      const accepted = await s.door.next();
      for (let id = 0; id < 20; id++) stream.send({ kind: 'ping', id, load: undefined });
      const first = new Ear(stream);
      const late = new Ear(accepted.stream);
      await s.wait(late.heard(20));
      t.strictSame(
        late.messages.map((message) => message.kind === 'ping' && message.id),
        Array.from({ length: 20 }, (_, id) => id),
      );
      accepted.stream.end();
      t.match(await s.wait(first.ended), { by: 'remote' });
    });

    t.test("a server's refusal reaches the peer with code, text and details", async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start();
      for (const code of [
        'unauthenticated',
        'revoked',
        'full',
        'bad-message',
        'version-mismatch',
        'not-found',
      ] as const) {
        const { stream } = await s.wait(s.client.dialControl(s.target(server), PATIENCE));
        const ear = new Ear(stream);
        const accepted = await s.door.next();
        const own = new Ear(accepted.stream);
        accepted.stream.send({ kind: 'pong', id: 7 });
        accepted.stream.end(new VpndError(code, 'no room here', { details: { next: 'b' }, retryable: true }));
        t.match(await s.wait(ear.ended), {
          by: 'remote',
          error: { code, message: 'no room here', details: { next: 'b' }, retryable: true },
        });
        t.same(ear.messages, [{ kind: 'pong', id: 7 }], 'what was sent before arrives before');
        t.match(await s.wait(own.ended), { by: 'local', error: { code } });
      }
    });

    t.test('a peer that does not read is disconnected, not buffered for', async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start();
      const { stream } = await s.wait(s.client.dialControl(s.target(server), PATIENCE));
      const accepted = await s.door.next();
      const own = new Ear(accepted.stream);
      const big = 'x'.repeat(400);
      let result = 'sent';
      let sent = 0;
      while (result === 'sent' && sent < 100_000) {
        result = accepted.stream.send({ kind: 'event', news: { kind: 'problem', code: 'x', message: big } });
        sent++;
        // Lets the connection take what it takes.
        if (sent % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      t.equal(result, 'overflow');
      t.ok(sent < 5_000, `${sent} messages of 400 bytes were let wait`);
      t.equal(accepted.stream.send({ kind: 'pong', id: 1 }), 'closed');
      t.match(await s.wait(own.ended), { by: 'local', error: { code: 'closed', details: { reason: 'overflow' } } });
      t.equal(own.ends.length, 1);
      stream.end();
    });

    t.test('what is only offered is dropped for a peer that does not read, and never in the way', async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start();
      const { stream } = await s.wait(s.client.dialControl(s.target(server), PATIENCE));
      const accepted = await s.door.next();
      const own = new Ear(accepted.stream);
      const session = sessionOf(7);
      const packet = new Uint8Array(1420).fill(4);
      const burst = (bytes: number): ControlMessage => ({
        kind: 'datagrams',
        session,
        packets: Array.from({ length: Math.ceil(bytes / packet.length) }, () => packet),
      });
      const turn = () => new Promise((resolve) => setImmediate(resolve));
      let taken = 0;
      for (let refused = 0; refused < 100 && taken < 10_000; ) {
        if (accepted.stream.offer(burst(20_000))) taken++;
        else refused++;
        // Lets the connection take what it takes.
        await turn();
      }
      t.ok(taken > 5, `${taken} bursts were taken before any was dropped`);
      t.ok(taken * 20_000 < 4_000_000, `${taken} bursts of 20 kB were let wait`);
      t.equal(own.ends.length, 0, 'the stream goes on');
      for (let id = 1; id <= 100; id++) t.equal(accepted.stream.send({ kind: 'pong', id }), 'sent');
      t.equal(own.ends.length, 0, 'there was room for what had to be sent');

      const ear = new Ear(stream);
      await s.wait(ear.heard(taken + 100));
      t.strictSame(ear.messages[0], burst(20_000), 'what was taken arrives');
      t.strictSame(ear.messages.at(-1), { kind: 'pong', id: 100 });
      while (!accepted.stream.offer(burst(1))) await turn();
      await s.wait(ear.heard(taken + 101));

      accepted.stream.end();
      t.equal(accepted.stream.offer(burst(1)), false);
      await s.wait(ear.ended);
    });

    t.test('calls: requests and answers arrive as they were sent', async (t) => {
      const s = await scene(bench(), t);
      const seen: unknown[] = [];
      const unary: { [name: string]: unknown } = {};
      const samples: { name: keyof UnaryCalls; request: unknown; response: unknown }[] = [];
      for (const name of Object.keys(UNARY_MESSAGES) as (keyof UnaryCalls)[]) {
        const [requests, responses] = UNARY_MESSAGES[name] as readonly [fc.Arbitrary<unknown>, fc.Arbitrary<unknown>];
        const [request, response] = [requests, responses].map((of) => fc.sample(of, { seed: SEED, numRuns: 1 })[0]);
        samples.push({ name, request, response });
        unary[name] = async (got: unknown, context: { remote: string; certified: unknown }) => {
          seen.push(got, context.remote, context.certified);
          return response;
        };
      }
      const server = await s.start({ unary: unary as ServeOptions['unary'] });
      for (const { name, request, response } of samples) {
        seen.length = 0;
        const answer = await s.wait(s.client.call(s.target(server), name, request as never, PATIENCE));
        t.strictSame(answer, response, name);
        t.strictSame(seen[0], request, name);
        t.equal(seen[2], undefined);
      }
    });

    t.test('calls: refusals keep code and details; what broke inside does not tell its text', async (t) => {
      const s = await scene(bench(), t);
      let thrown: unknown;
      const server = await s.start({
        unary: {
          requestExitRegion: async () => {
            throw thrown;
          },
        },
      });
      const ask = () =>
        s.wait(refusal(s.client.call(s.target(server), 'requestExitRegion', { region: undefined }, PATIENCE)));
      for (const code of ['forbidden', 'no-exit', 'token-used', 'full', 'not-found', 'stale-generation'] as const) {
        thrown = new VpndError(code, `it is ${code}`, { details: { why: code }, retryable: true });
        t.match(await ask(), { code, message: `it is ${code}`, details: { why: code }, retryable: true });
      }
      thrown = new TypeError('secret path /home/me');
      t.match(await ask(), { code: 'internal', message: 'internal error' });
      t.match(await s.wait(refusal(s.client.call(s.target(server), 'closeSession', sampleClose(), PATIENCE))), {
        code: 'not-supported',
      });
    });

    t.test('calls: an answer that does not come is a timeout, and the handler is told', async (t) => {
      const s = await scene(bench(), t);
      let told: (() => void) | undefined;
      const abandoned = new Promise<void>((resolve) => {
        told = resolve;
      });
      const server = await s.start({
        unary: {
          requestExitRegion: (_request, { signal }) =>
            new Promise((_resolve, reject) =>
              signal.addEventListener('abort', () => {
                told?.();
                reject(signal.reason);
              }),
            ),
        },
      });
      const error = await s.wait(
        refusal(s.client.call(s.target(server), 'requestExitRegion', { region: undefined }, { timeout: ms(300) })),
      );
      t.equal(error.code, 'timeout');
      await s.wait(abandoned);
    });

    t.test('a given-up dial or call ends at once', async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start({ unary: { requestExitRegion: () => new Promise(() => {}) } });
      const abort = new AbortController();
      const call = refusal(
        s.client.call(
          s.target(server),
          'requestExitRegion',
          { region: undefined },
          { ...PATIENCE, signal: abort.signal },
        ),
      );
      const dial = refusal(s.client.dialControl(s.target(server), { ...PATIENCE, signal: abort.signal }));
      abort.abort();
      t.equal((await s.wait(call)).code, 'closed');
      t.equal((await s.wait(dial)).code, 'closed');
      t.equal(
        (await refusal(s.client.dialControl(s.target(server), { ...PATIENCE, signal: abort.signal }))).code,
        'closed',
      );
    });

    t.test('a server of another overlay, or another node of this one, is refused by what was expected', async (t) => {
      const s = await scene(bench(), t);
      const other = await testCa(s.certificates, s.now());
      const stranger = await other.identity(SUPERNODE_A);
      const foreign = await s.start({ identity: () => stranger });
      const dial = (target: DialTarget) => s.wait(refusal(s.client.dialControl(target, PATIENCE)));
      t.match(await dial(s.target(foreign)), { code: 'wrong-ca', message: /supernode .*CA/ });

      const own = await s.start();
      const asBase = await dial(s.target(own, { expect: BASE }));
      t.match(asBase, { code: 'wrong-ca', message: /vpnd:\/\/base/ });
      const asOther = await dial(s.target(own, { expect: { kind: 'supernode', id: peerOf(11) } }));
      t.match(asOther, { code: 'wrong-ca', message: new RegExp(peerOf(11)) });
      t.match(
        await s.wait(
          refusal(s.client.call(s.target(own, { expect: BASE }), 'requestExitRegion', { region: undefined }, PATIENCE)),
        ),
        { code: 'wrong-ca' },
      );
    });

    t.test("a certificate from tomorrow or yesterday points at this machine's clock", async (t) => {
      const s = await scene(bench(), t);
      for (const [from, word] of [
        [s.now() + days(3), /not valid yet/],
        [s.now() - days(10), /expired/],
      ] as const) {
        const identity = await s.ca.identity(SUPERNODE_A, { from: instantOf(from), for: hours(1) });
        const server = await s.start({ identity: () => identity });
        const error = await s.wait(refusal(s.client.dialControl(s.target(server), PATIENCE)));
        t.match(error, { code: 'clock-skew', message: word });
        t.match(error.message, /check this machine's clock/);
      }
    });

    t.test('nothing listening is unreachable', async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start();
      const target = s.target(server);
      await server.close();
      t.match(await s.wait(refusal(s.client.dialControl(target, PATIENCE))), {
        code: 'unreachable',
        retryable: true,
        message: /nothing listens/,
      });
      t.match(await s.wait(refusal(s.client.call(target, 'requestExitRegion', { region: undefined }, PATIENCE))), {
        code: 'unreachable',
      });
      t.match(await s.wait(refusal(s.client.fetchCa(target.address, new Uint8Array(32), PATIENCE))), {
        code: 'unreachable',
      });
    });

    t.test('a client certificate of the CA says who calls; any other says nothing', async (t) => {
      const s = await scene(bench(), t);
      const B = peerOf(20);
      const server = await s.start({
        unary: {
          requestExitRegion: async (_request, { certified }) => ({
            supernodes: [],
            regions: [],
            ...(certified === B ? {} : refuse()),
          }),
        },
      });
      const asked = async (identity: TlsIdentity) => {
        const target = s.target(server, { identity: () => identity });
        const { stream } = await s.wait(s.client.dialControl(target, PATIENCE));
        const { certified } = await s.door.next();
        stream.end();
        const call = s.wait(s.client.call(target, 'requestExitRegion', { region: undefined }, PATIENCE));
        return [
          certified,
          await call.then(
            () => 'answered',
            (error: VpndError) => error.code,
          ),
        ];
      };
      const other = await testCa(s.certificates, s.now());
      t.same(await asked(await s.ca.identity({ kind: 'supernode', id: B })), [B, 'answered']);
      t.same(await asked(await s.ca.identity(BASE)), [undefined, 'forbidden']);
      t.same(await asked(await other.identity({ kind: 'supernode', id: B })), [undefined, 'forbidden']);
      const old = await s.ca.identity(
        { kind: 'supernode', id: B },
        { from: instantOf(s.now() - days(9)), for: hours(1) },
      );
      t.same(await asked(old), [undefined, 'forbidden']);
    });

    t.test('a renewed certificate is shown to new connections while running streams stay', async (t) => {
      const s = await scene(bench(), t);
      let identity = await s.ca.identity(SUPERNODE_A);
      const server = await s.start({ identity: () => identity });
      const before = await s.wait(s.client.dialControl(s.target(server), PATIENCE));
      const first = await s.door.next();
      const echo = new Ear(first.stream, (message, stream) => stream.send(message));
      const ear = new Ear(before.stream);

      identity = await s.ca.identity(SUPERNODE_A);
      server.renewed();
      const after = await s.wait(s.client.dialControl(s.target(server), PATIENCE));
      const second = await s.door.next();
      t.notSame(after.serverKeyHash, before.serverKeyHash);
      t.strictSame(second.serverKeyHash, after.serverKeyHash);
      t.strictSame(first.serverKeyHash, before.serverKeyHash);

      before.stream.send({ kind: 'ping', id: 1, load: undefined });
      await s.wait(ear.heard(1));
      before.stream.end();
      after.stream.end();
      await s.wait(echo.ended);
    });

    t.test('the CA of a token is fetched by its hash, and nothing else is taken for it', async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start();
      const fetched = await s.wait(s.client.fetchCa(addressOf(server), s.ca.authority.keyHash, PATIENCE));
      const { stream } = await s.wait(s.client.dialControl(s.target(server, { ca: fetched }), PATIENCE));
      stream.end();
      const other = await testCa(s.certificates, s.now());
      t.match(await s.wait(refusal(s.client.fetchCa(addressOf(server), other.authority.keyHash, PATIENCE))), {
        code: 'wrong-ca',
      });
    });

    t.test('a port in use and an address of somebody else are refused by name', async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start();
      const again = await refusal(s.start({ listen: addressOf(server) }));
      t.match(again, { code: 'port-in-use', message: new RegExp(`${server.address.ip}:${server.address.port}`) });
      const elsewhere = await refusal(s.start({ listen: { host: ipOf('192.0.2.77'), port: 4433 as Port } }));
      t.match(elsewhere, { code: 'bad-config', message: /192\.0\.2\.77/ });
      await server.close();
      const free = await s.start({ listen: addressOf(server) });
      t.equal(free.address.port, server.address.port, 'a closed server frees its port');
    });

    t.test('a closing server ends its streams once, with a reason, and takes no new ones', async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start();
      const dials = await s.wait(Promise.all([1, 2, 3, 4].map(() => s.client.dialControl(s.target(server), PATIENCE))));
      const ears = dials.map(({ stream }) => new Ear(stream));
      const accepted = await Promise.all(dials.map(() => s.door.next()));
      const owns = accepted.map(({ stream }) => new Ear(stream));
      await s.wait(server.close());
      for (const ear of ears)
        t.match(await s.wait(ear.ended), { by: 'remote', error: { code: 'closed', retryable: true } });
      for (const own of owns) t.match(await s.wait(own.ended), { by: 'local' });
      t.equal((await s.wait(refusal(s.client.dialControl(s.target(server), PATIENCE)))).code, 'unreachable');
      t.same(
        [...ears, ...owns].map((ear) => ear.ends.length),
        Array.from({ length: 8 }, () => 1),
      );
    });

    t.test('a stream ended twice and from both sides is ended once', async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start();
      const { stream } = await s.wait(s.client.dialControl(s.target(server), PATIENCE));
      const accepted = await s.door.next();
      const [ear, own] = [new Ear(stream), new Ear(accepted.stream)];
      stream.end();
      accepted.stream.end(new VpndError('full', 'too late'));
      stream.end();
      accepted.stream.end();
      await s.wait(Promise.all([ear.ended, own.ended]));
      await server.close();
      t.equal(ear.ends.length, 1);
      t.equal(own.ends.length, 1);
    });

    t.test('a listener that throws ends its own stream and no other', async (t) => {
      const s = await scene(bench(), t);
      const server = await s.start();
      const [bad, good] = await s.wait(Promise.all([1, 2].map(() => s.client.dialControl(s.target(server), PATIENCE))));
      if (bad === undefined || good === undefined) throw new Error('no streams');
      const both = [await s.door.next(), await s.door.next()];
      for (const { stream } of both)
        new Ear(stream, (message) => {
          if (message.kind === 'ping') throw new Error('a bug');
          stream.send(message);
        });
      const [badEar, goodEar] = [new Ear(bad.stream), new Ear(good.stream)];
      bad.stream.send({ kind: 'ping', id: 1, load: undefined });
      t.match(await s.wait(badEar.ended), { by: 'remote', error: { code: 'internal', message: 'internal error' } });
      good.stream.send({ kind: 'pong', id: 1 });
      await s.wait(goodEar.heard(1));
      good.stream.end();
    });
  });
}

const sessionOf = (seed: number): SessionId => {
  const parsed = sessionIdOf(new Uint8Array(16).fill(seed));
  if (!parsed.ok) throw parsed.error;
  return parsed.value;
};

const refuse = (): never => {
  throw new VpndError('forbidden', 'supernodes only');
};

const sampleClose = () => fc.sample(UNARY_MESSAGES.closeSession[0], { seed: SEED, numRuns: 1 })[0] as never;
