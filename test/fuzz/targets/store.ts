import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { openSodium } from '../../../src/identity/sodium.js';
import { openStateDir } from '../../../src/identity/state-dir.js';
import { parsePeerId } from '../../../src/model/ids.js';
import type { ControlMessage } from '../../../src/model/messages.js';
import { instantOf } from '../../../src/model/time.js';
import { loadEnrolment } from '../../../src/roles/common/enrolment-facts.js';
import { decodeJson, encodeJson } from '../../../src/store/json-codec.js';
import { decodeDesired, decodeResponse } from '../../../src/store/records.js';
import { openStore, STORE_FILE } from '../../../src/store/sqlite/open.js';
import { CONTROL } from '../../support/message-arbitraries.js';
import { must, mustEqual, orRefused } from '../engine/oracle.js';
import { bytesOf, type Target, textOf } from '../engine/target.js';

const { crypto } = await openSodium();

const ENROLMENT = {
  peer: 'a'.repeat(52),
  role: 'exit',
  region: 'eu',
  membership: { body: 'AAAA', signature: 'AAAA' },
  baseKey: 'AAAA',
  ca: '-----BEGIN CERTIFICATE-----',
  baseAddresses: [{ host: '203.0.113.1', port: 443 }],
  supernodes: [
    {
      id: 'a'.repeat(52),
      region: 'eu',
      addresses: [{ host: 'a.example', port: 443 }],
      relayIps: ['203.0.113.7'],
      probePort: 443,
    },
  ],
};

/** What a row of the database holds, as text: read whole and right, or refused. */
export const record: Target = {
  name: 'record',
  shape: 'json',
  words: [
    '$bytes',
    '$undefined',
    '$x',
    'kind',
    'setup-exit',
    'disconnect',
    'toString',
    '__proto__',
    'offer',
    'body',
    'signature',
    'AAAA',
    'peer',
    'supernodes',
  ],
  open: async (seed) => {
    const commands = fc.sample<ControlMessage>(CONTROL.command as fc.Arbitrary<ControlMessage>, { numRuns: 60, seed });
    const rows = [
      JSON.stringify(ENROLMENT),
      encodeJson({ offer: { body: new Uint8Array(3), signature: new Uint8Array(64) } }),
      ...commands.flatMap((one) => (one.kind === 'command' ? [encodeJson([one.command.desired])] : [])),
    ];
    return {
      make: (chance) => bytesOf(chance.of(rows)),
      run(input) {
        const text = textOf(input);
        const corrupt = ['state-corrupt'];
        const value = orRefused(() => ({ read: decodeJson(text) }), corrupt);
        if (value !== undefined)
          mustEqual(decodeJson(encodeJson(value.read)), value.read, 'a value comes out as another');
        const desired = orRefused(() => decodeDesired(text), corrupt);
        const kinds = ['setup-exit', 'relay-setup', 'relay-update', 'rotate-peer', 'disconnect'];
        must(desired?.every(({ kind }) => kinds.includes(kind)) ?? true, 'a desired state of an unknown kind', text);
        orRefused(() => decodeResponse(text), corrupt);
        if (value === undefined) return;
        const facts = { get: <T>() => value.read as T, put: () => {}, remove: () => {}, names: () => [] };
        try {
          const enrolment = loadEnrolment(facts);
          if (enrolment !== undefined) must(parsePeerId(enrolment.peer).ok, 'an enrolment of nobody');
        } catch (thrown) {
          // It says so by a cause of whatever kind; what counts is that nothing is taken up.
          must(
            thrown instanceof Error && 'code' in thrown && thrown.code === 'state-corrupt',
            'an enrolment throws',
            String(thrown),
          );
        }
      },
    };
  },
};

/** A database file with damage in it, and key files: opened and read, or refused, and left as they are. */
export const stateFiles: Target = {
  name: 'state-files',
  shape: 'bytes',
  words: ['SQLite format 3\u0000', 'fact', 'CREATE TABLE', '\u0000\u0000\u0000\u0000'],
  mostBytes: 400_000,
  open: async () => {
    const dir = mkdtempSync(join(tmpdir(), 'vpnd-fuzz-state-'));
    const path = join(dir, STORE_FILE);
    const store = openStore(dir, { role: 'exit' });
    store.facts.put('enrolment', ENROLMENT);
    store.facts.put('wish', { region: 'eu' });
    store.purge();
    store.close();
    const whole = new Uint8Array(readFileSync(path));
    const key = readFileSync(keyFile(dir));
    return {
      // Mostly the head of the file, where its shape is written down.
      make: (chance) => (chance.oneIn(5) ? new Uint8Array(key) : whole),
      run(input) {
        for (const suffix of ['-wal', '-shm', '-journal']) rmSync(path + suffix, { force: true });
        if (input.length < 4_096) {
          writeFileSync(join(dir, 'identity.key'), input, { mode: 0o600 });
          orRefused(() => openStateDir(dir, crypto, { lock: false }).identity(), ['state-unreadable', 'state-corrupt']);
          return;
        }
        writeFileSync(path, input);
        orRefused(() => {
          const opened = openStore(dir, { role: 'exit' });
          try {
            orRefused(() => opened.facts.get('enrolment'));
            orRefused(() => opened.facts.names(''));
            orRefused(() => opened.ledger.sessions());
            orRefused(() => opened.ledger.prune(instantOf(0)));
            orRefused(() => opened.audit.read(0, 10));
            orRefused(() => opened.facts.put('x', 1));
          } finally {
            opened.close();
          }
        });
      },
      close: () => rmSync(dir, { recursive: true, force: true }),
    };
  },
};

function keyFile(dir: string): string {
  const state = openStateDir(dir, crypto, { lock: false });
  state.identity();
  return join(dir, 'identity.key');
}
