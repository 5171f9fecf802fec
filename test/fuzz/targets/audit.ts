import { entryLine, shownJson } from '../../../src/cli/audit.js';
import { exportLines, parseExport } from '../../../src/cli/audit-file.js';
import {
  CHAIN_START,
  type ChainEnd,
  type FoundChain,
  nextEntry,
  sealed,
  verifyChain,
} from '../../../src/core/audit-chain.js';
import type { AuditEntry, AuditEvent } from '../../../src/core/ports/audit.js';
import { openSodium } from '../../../src/identity/sodium.js';
import { keyOf } from '../../../src/model/ids.js';
import { instantOf } from '../../../src/model/time.js';
import { must, mustEqual, orRefused } from '../engine/oracle.js';
import { Chance } from '../engine/random.js';
import { bytesOf, type Target, textOf } from '../engine/target.js';

const { crypto } = await openSodium();
const node = crypto.identityFromSeed(new Chance(11).bytes(32));
const AT = instantOf(Date.UTC(2026, 0, 1));

const EVENTS: readonly AuditEvent[] = [
  { code: 'daemon-started', by: 'daemon', on: 'base', detail: { version: '1.2.3', role: 'base' } },
  { code: 'token-made', by: 'operator', on: 'token:1a2b3c4d', detail: { role: 'exit', uses: 1 } },
  { code: 'enrolled', by: 'stranger', on: 'peer:x' },
  { code: 'admin-call', by: 'local:uid=0', on: 'call:revoke', detail: { supernode: false } },
];

function exported(events: readonly AuditEvent[], checkpointAt: number): string {
  const entries: AuditEntry[] = [];
  let end: ChainEnd = CHAIN_START;
  for (const event of events) {
    const entry = nextEntry(end, event, AT, crypto.sha256);
    entries.push(entry);
    end = entry;
  }
  const checkpoint = entries[checkpointAt];
  const chain = {
    entries,
    head: entries.length === 0 ? undefined : sealed('head', end, AT, node),
    anchor: undefined,
    checkpoints: checkpoint === undefined ? [] : [sealed('checkpoint', checkpoint, AT, node)],
  };
  return [...exportLines(chain, node.id)].join('');
}

/** Exported audit logs: read, judged, shown and written again. */
export const auditExport: Target = {
  name: 'audit-export',
  shape: 'json',
  words: [
    'sequence',
    'at_ms',
    'hash',
    'signature',
    'head',
    'anchor',
    'checkpoints',
    'entries',
    'detail',
    'previous',
    'by',
  ],
  open: async () => {
    const whole = Array.from({ length: 5 }, (_, n) => exported(EVENTS.slice(0, n), n - 2));
    // Who leaves a checkpoint out hides nothing: the head says how many entries there are.
    const said = ({ head, entries }: FoundChain) => JSON.stringify([head, [...entries]]);
    const genuine = new Set(whole.map((text) => said(parseExport(text, 'x').chain)));
    const keys = [keyOf(node.id)];
    return {
      // A line is a value: the mutator changes one of them, and sometimes the lines.
      make: (chance) => bytesOf(chance.of(whole)),
      run(input) {
        const text = textOf(input);
        const read = orRefused(() => parseExport(text, 'x'), ['bad-config']);
        if (read === undefined) return;
        const verdict = verifyChain(read.chain, { keys, crypto });
        const shown = [...read.chain.entries].map((entry) => [entryLine(entry), JSON.stringify(shownJson(entry))]);
        must(
          shown.every(([line]) => line?.indexOf('\n') === line?.lastIndexOf('\n')),
          'an entry is shown on two lines',
        );
        const written = [...exportLines(read.chain, read.node)].join('');
        mustEqual(parseExport(written, 'x'), read, 'a log comes out as another');
        if (verdict.fault === undefined)
          must(genuine.has(said(read.chain)), 'a log that nobody signed is whole', written);
      },
    };
  },
};
