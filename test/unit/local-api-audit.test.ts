import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Audit, AuditEvent } from '../../src/core/ports/audit.js';
import { VpndError } from '../../src/model/errors.js';
import type { LocalHandlers } from '../../src/transport/local-api.js';
import { localClient } from '../../src/transport/local-api-client.js';
import { serveLocalApi, whoMayConnect } from '../../src/transport/local-api-server.js';
import { testLog } from '../support/test-log.js';

const FULL = new VpndError('disk-full', 'not done, since the audit log cannot record it', { retryable: true });
const UID = process.geteuid?.() ?? 0;
const ME = UID === 0 ? 'local:uid=0' : `local:uid=${UID}|0`;

async function served(t: Test, role: 'base' | 'supernode', handlers: Partial<LocalHandlers>) {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-api-'));
  const socket = join(dir, 'vpnd.sock');
  const said: (AuditEvent & { readonly how: 'record' | 'note' })[] = [];
  const state: { full: boolean } = { full: false };
  const audit: Audit = {
    record: async (...events) => {
      if (state.full) throw FULL;
      for (const event of events) said.push({ ...event, how: 'record' });
    },
    note: (event) => void said.push({ ...event, how: 'note' }),
    problem: () => undefined,
  };
  const all: LocalHandlers = { status: async () => ({}), events: () => [], ...handlers };
  const server = await serveLocalApi({ socket, role, handlers: all, log: testLog(), audit });
  t.teardown(async () => {
    await server.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return { socket, said, state, api: localClient(socket) };
}

t.test('a call that changes something is on record before it is carried out', async (t) => {
  const { api, said, state } = await served(t, 'base', {
    createToken: async () => {
      said.push({ code: 'token-made', by: 'operator', on: 'here', how: 'record' });
      return { token: 'x' };
    },
    revokeToken: async () => {
      throw new VpndError('not-found', 'there is none');
    },
    listTokens: async () => ({ tokens: [] }),
  });
  await api.createToken({});
  t.match(said, [
    { code: 'admin-call', by: ME, on: 'call:token create', how: 'record' },
    { code: 'token-made', on: 'here' },
  ]);
  said.length = 0;
  await t.rejects(api.revokeToken('1a2b3c4d'), { code: 'not-found' });
  t.match(said, [
    { on: 'call:token revoke', how: 'record' },
    { on: 'call:token revoke', how: 'note', detail: { refused: 'not-found' } },
  ]);
  said.length = 0;
  state.full = true;
  await t.rejects(api.createToken({}), { code: 'disk-full' });
  t.notOk(
    said.some(({ code }) => code === 'token-made'),
    'and not carried out where it cannot be put on record',
  );
  await api.listTokens();
  t.match(said.at(-1), { on: 'call:token list', how: 'note' }, 'lists are told all the same');
});

t.test('a look at the status or the events is no entry; a call for another role is one', async (t) => {
  const { api, said } = await served(t, 'base', {});
  await api.status();
  await api.events(10);
  t.same(said, []);
  await t.rejects(api.down(), { code: 'not-supported' });
  t.match(said, [{ on: 'call:down', detail: { refused: 'not-supported' } }]);
});

t.test('a drain is on record, too', async (t) => {
  const { api, said } = await served(t, 'supernode', {
    drain: async function* () {
      yield { done: true };
    },
  });
  for await (const progress of api.drain({}, new AbortController().signal)) t.ok(progress.done);
  t.match(said, [{ on: 'call:supernode drain', by: ME, how: 'record' }]);
});

t.test('a caller is whoever the socket lets in', async (t) => {
  const { socket } = await served(t, 'base', {});
  t.equal(whoMayConnect(socket), ME);
  chmodSync(socket, 0o660);
  t.match(whoMayConnect(socket), /^local:uid=\d+(\|0)?,gid=\d+$/);
  t.equal(whoMayConnect(`${socket}-gone`), 'local:?');
});
