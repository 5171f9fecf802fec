import { create, toJsonString } from '@bufbuild/protobuf';
import t from 'tap';
import type { AuditEntry } from '../../src/core/ports/audit.js';
import type { Crypto } from '../../src/core/ports/crypto.js';
import type { LogFields } from '../../src/core/ports/log.js';
import { CreateTokenRequestSchema, NodeStatusSchema } from '../../src/gen/vpnd/v1/admin_pb.js';
import { Role } from '../../src/gen/vpnd/v1/types_pb.js';
import { type Bytes, fromBase64, toBase32, toBase64, toHex } from '../../src/model/bytes.js';
import { toVpndError } from '../../src/model/errors.js';
import { entriesOf, openAudit } from '../../src/obs/audit.js';
import { type LogOptions, openLog } from '../../src/obs/log.js';
import { openMetrics } from '../../src/obs/metrics.js';
import { type Machine, overlayWorld } from '../support/overlay-world.js';

/** The ways in which a text could hold a byte string. */
const written = (secret: Bytes): readonly string[] => [
  toBase64(secret).replace(/=+$/, ''),
  Buffer.from(secret).toString('base64url'),
  toHex(secret),
  toHex(secret).toUpperCase(),
  toBase32(secret),
  [...secret].join(','),
  [...secret].join(', '),
];

/** An overlay that logs all it can, with every secret that any of its nodes makes. */
async function spiedWorld(privacy: LogOptions['privacy']) {
  const secrets = new Map<string, Bytes>();
  const sixteen = new Map<string, Bytes>();
  const ids = new Set<string>();
  const logs: { readonly node: string; readonly line: string }[] = [];
  const registries: { readonly node: string; readonly text: () => Promise<string> }[] = [];
  const keep = (what: string, secret: Bytes | undefined): void => {
    // A copy: those who are done with a secret overwrite it.
    if (secret !== undefined) secrets.set(`${what} ${secrets.size}`, secret.slice());
  };
  const spied = (name: string, crypto: Crypto): Crypto => ({
    ...crypto,
    wireGuardKeyPair: () => {
      const pair = crypto.wireGuardKeyPair();
      keep(`${name}: WireGuard key`, fromBase64(pair.privateKey));
      return pair;
    },
    hkdfSha256: (...args) => {
      const out = crypto.hkdfSha256(...args);
      keep(`${name}: derived key`, out);
      return out;
    },
    kemKeyPair: () => {
      const pair = crypto.kemKeyPair();
      keep(`${name}: ML-KEM key`, pair.secretKey);
      return pair;
    },
    kemEncapsulate: (key) => {
      const out = crypto.kemEncapsulate(key);
      keep(`${name}: ML-KEM secret`, out?.sharedSecret);
      return out;
    },
  });
  const world = await overlayWorld({
    clients: [{ region: 'us', standby: true, privacy: 'private' }],
    exits: [{ region: 'eu' }, { region: 'eu' }],
    ports: (machine: Machine, ports) => {
      const real = openLog({
        level: 'debug',
        privacy,
        role: machine.role,
        destination: { write: (line) => void logs.push({ node: machine.name, line }) },
      });
      const remember = (fields: LogFields = {}) => {
        for (const id of [fields.session_id, fields.command_id]) if (id !== undefined) ids.add(id);
        return fields;
      };
      const log = {
        debug: (text: string, fields?: LogFields) => real.debug(text, remember(fields)),
        info: (text: string, fields?: LogFields) => real.info(text, remember(fields)),
        warn: (text: string, fields?: LogFields) => real.warn(text, remember(fields)),
        error: (text: string, fields?: LogFields) => real.error(text, remember(fields)),
        child: (fields: LogFields) => real.child(remember(fields)),
      };
      const { metrics, registry } = openMetrics();
      registries.push({ node: machine.name, text: () => registry.metrics() });
      const { identity } = machine;
      const { crypto, clock, random } = ports;
      const keepsAudit = machine.role === 'base' || machine.role === 'supernode';
      const { audit: store, facts } = machine.store;
      return {
        ...ports,
        log,
        metrics,
        crypto: spied(machine.name, crypto),
        random: {
          fraction: () => random.fraction(),
          bytes: (length) => {
            const bytes = random.bytes(length);
            if (length === 32) keep(`${machine.name}: random`, bytes);
            if (length === 16) sixteen.set(toHex(bytes), bytes);
            return bytes;
          },
        },
        ...(keepsAudit ? { audit: openAudit({ store, facts, identity, crypto, clock, log }) } : {}),
      };
    },
  });
  for (const machine of world.all()) keep(`${machine.name}: WireGuard key`, fromBase64(machine.wireguard.privateKey));
  /** Probe tokens are what is left of 16 random bytes when the ids of sessions and commands are taken away. */
  const found = () => {
    const sessions = world
      .all()
      .flatMap(({ store }) => store.ledger.sessions().map(({ session }) => session as string));
    const known = new Set([...ids, ...sessions]);
    const probes = [...sixteen].filter(([id]) => !known.has(id));
    return new Map([...secrets, ...probes.map(([id, bytes]) => [`probe token ${id}`, bytes] as const)]);
  };
  return { world, logs, registries, secrets: found, sessions: () => ids };
}

/** Everything that anybody is shown: by node and kind. */
async function shown({ world, logs, registries }: Awaited<ReturnType<typeof spiedWorld>>, errors: readonly string[]) {
  const texts = logs.map(({ node, line }) => ({ where: `log of ${node}`, node, text: line }));
  for (const machine of world.all()) {
    const { name } = machine;
    const { create: _, ...status } = { create, ...(await world.status(name)) };
    texts.push({
      where: `status of ${name}`,
      node: name,
      text: toJsonString(NodeStatusSchema, create(NodeStatusSchema, status)),
    });
    texts.push({
      where: `events of ${name}`,
      node: name,
      text: JSON.stringify(machine.running.local.events?.(1_000)) ?? '',
    });
    const entries: readonly AuditEntry[] = [...entriesOf(machine.store.audit)];
    const audit = entries.map(({ by, code, on, detail }) => ({ by, code, on, detail }));
    texts.push({ where: `audit of ${name}`, node: name, text: JSON.stringify(audit) });
  }
  for (const { node, text } of registries) texts.push({ where: `metrics of ${node}`, node, text: await text() });
  for (const text of errors) texts.push({ where: 'an error', node: '', text });
  return texts;
}

for (const privacy of ['strict', 'partial', 'off'] as const) {
  t.test(`no secret is in anything that is shown, with --log-privacy ${privacy} at debug`, async (t) => {
    const spy = await spiedWorld(privacy);
    const { world } = spy;
    const errors: string[] = [];
    const complain = (thrown: unknown) =>
      void errors.push(`${String(thrown)} ${JSON.stringify(toVpndError(thrown).details)}`);
    const tokens: string[] = [];
    const made = await world.base.running.local.createToken?.(
      create(CreateTokenRequestSchema, {
        role: Role.CLIENT,
        region: 'us',
        ttlMs: 3_600_000n,
        uses: 1,
        note: 'for 203.0.113.77',
      }),
    );
    tokens.push(made?.token ?? '');

    await world.up('c0', { region: 'eu' });
    const held = new Set((await world.sessions('c0')).map(({ sessionId }) => sessionId ?? ''));
    await world.advance(20_000);
    await world.rotate('c0').catch(complain);
    await world.advance(20_000);
    for (const { sessionId } of await world.sessions('c0')) held.add(sessionId ?? '');
    errors.push(String(await world.refusal('c0', { region: 'nowhere' })));
    errors.push(String(await world.refusal('c0', { exit: 'zzzz' })));
    await world.restart('b');
    await world.advance(30_000);
    await world.restart('c0');
    await world.advance(30_000);
    await world.down('c0');
    await world.advance(5_000);

    const texts = await shown(spy, errors);
    const secrets = spy.secrets();
    t.ok(secrets.size > 50, `${secrets.size} secrets`);
    t.ok(spy.logs.length > 50, `${spy.logs.length} lines`);
    t.ok(texts.some(({ where, text }) => where === 'audit of base' && text.includes('token-made')));
    const leaks: string[] = [];
    for (const { where, text } of texts) {
      for (const [name, secret] of secrets)
        if (written(secret).some((form) => text.includes(form))) leaks.push(`${name} in ${where}: ${text}`);
      for (const token of tokens) if (text.includes(token)) leaks.push(`join token in ${where}`);
    }
    t.same(leaks, []);

    // Where a peer is: its own node shows its own user that, and nobody else does.
    const peers = world.all().filter(({ role }) => role === 'exit' || role === 'client');
    const addresses = [...peers.map(({ publicIp }) => publicIp as string), '203.0.113.77'];
    const told = texts.filter(
      ({ where, node, text }) =>
        !(privacy === 'off' && where.startsWith('log')) &&
        !(peers.some(({ name }) => name === node) && where.startsWith('status')) &&
        addresses.some((ip) => text.includes(ip)),
    );
    t.same(told, [], 'whole addresses');
    if (privacy !== 'strict') return;
    t.same(
      texts.filter(({ where, text }) => where.startsWith('log') && text.includes('203.0.113.')),
      [],
      'not even their networks',
    );
    held.delete('');
    t.ok(held.size > 1);
    const tied = [...held, ...spy.sessions()].flatMap((id) =>
      texts.filter(({ where, text }) => where.startsWith('log') && text.includes(id.slice(0, 8))),
    );
    t.same(tied, [], 'no session is in a log, so that nobody is tied to one');
  });
}
