import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { excludedGroup } from '../../../dataplane/excluded-programs.js';
import { killSwitchTable } from '../../../dataplane/kill-switch.js';
import { killSwitchElements, renderKillSwitch } from '../../../dataplane/kill-switch-text.js';
import { loadLockdown } from '../../../dataplane/lockdown.js';
import { lockdownFileIn } from '../../../dataplane/lockdown-file.js';
import { onLinkNetworks } from '../../../dataplane/on-link.js';
import type { Runner } from '../../../dataplane/run.js';
import { includesRange } from '../../../dataplane/sysctl.js';
import { parseSide } from '../../../dataplane/tc-list.js';
import { parseUnallowed } from '../../../dataplane/traffic.js';
import { parseCidr, parseIp } from '../../../src/model/address.js';
import type { KillSwitchUnit } from '../../../src/model/dataplane.js';
import { parseCpu, parseNetDev, uplinkNames } from '../../../src/obs/host-load.js';
import { must, orRefused } from '../engine/oracle.js';
import { bytesOf, type Target, textOf } from '../engine/target.js';

/** Files and answers that decide what a machine lets out, and what it takes itself to be. */

const TABLE = killSwitchTable('vpnd_client');
const DROP = `table inet ${TABLE} {}\ndelete table inet ${TABLE}\n`;
const UNIT = {
  devices: ['wg-client', 'wg-client-1'],
  lan: true,
  exclude: ['198.51.100.0/24', '2001:db8::/32'],
  endpoints: [{ ip: '203.0.113.7', port: 40_001 }],
  own: [{ protocol: 'tcp', endpoint: { ip: '2001:db8::7', port: 443 } }],
} as unknown as KillSwitchUnit;

/** `lockdown.nft` in a client's state directory, which root loads at boot: rules of one table, or everything is held. */
export const lockdownFile: Target = {
  name: 'lockdown-file',
  shape: 'text',
  words: [
    ...['  }\n', '}\n', '{', '}', '"', '#', ';', '\\\n', '  flush ruleset\n', '  include "/etc/passwd"\n', 'accept'],
    ...['table inet x {', '  add chain inet filter x {\n', '  delete chain inet filter input\n', '  define x = 1\n'],
    ...['elements = { 1 }', 'policy accept;', '\u0000', '  "', '$x'],
  ],
  open: async () => {
    const dir = mkdtempSync(join(tmpdir(), 'vpnd-fuzz-lockdown-'));
    const file = lockdownFileIn(dir);
    let told = '';
    const runner: Runner = {
      find: (tool) => tool,
      run: async (_, __, options) => {
        told = options?.input ?? '';
        return '';
      },
    };
    return {
      make: (chance) => {
        const unit = chance.oneIn(2) ? UNIT : { ...UNIT, lan: false, exclude: [] };
        return bytesOf(`${DROP}${renderKillSwitch(TABLE, { ...unit, uid: 998 }, killSwitchElements(unit))}`);
      },
      async run(input) {
        writeFileSync(file, input);
        const loaded = await loadLockdown(dir, runner);
        must(loaded.kind !== 'off', 'a file that is there locks nothing down');
        must(told.startsWith(DROP), 'the table before is not replaced', told);
        checkOneTable(told.slice(DROP.length), loaded.kind);
        must(
          loaded.kind === 'closed' || told === Buffer.from(input).toString(),
          'other rules are loaded than are kept',
        );
      },
      close: () => rmSync(dir, { recursive: true, force: true }),
    };
  },
};

/** As nft reads it: braces, words in quotes, comments. */
function checkOneTable(rules: string, kind: string): void {
  let depth = 0;
  let isQuoted = false;
  let isComment = false;
  must(rules.startsWith(`table inet ${TABLE} {`), 'it is about another table', rules.slice(0, 200));
  for (let at = 0; at < rules.length; at++) {
    const one = rules[at];
    if (one === '\n') isComment = false;
    else if (isComment) continue;
    else if (one === '"') isQuoted = !isQuoted;
    else if (isQuoted) continue;
    else if (one === '#') isComment = true;
    else if (one === '{') depth++;
    else if (one === '}') {
      depth--;
      if (depth > 0) continue;
      must(rules.slice(at + 1).trim() === '', `${kind}: more follows behind the table`, rules.slice(at + 1));
      return;
    }
  }
  // Not whole: nft loads nothing of it, and everything is held.
}

const TC = [
  'qdisc htb 1: root refcnt 2 r2q 10 default 0x1 direct_packets_stat 0 direct_qlen 1000\nqdisc fq_codel 10: parent 1:10 limit 10240p\n',
  'class htb 1:10 parent 1:fffe leaf 10: prio 0 rate 10Mbit ceil 20Mbit burst 1600b cburst 1600b\nclass htb 1:fffe root rate 1Gbit ceil 1Gbit\n',
  'filter protocol ip pref 1 u32 chain 0 fh 10: ht divisor 256\nfilter protocol ip pref 1 u32 chain 0 fh 10:2:800 order 2048 key ht 10 bkt 2 flowid 1:10 not_in_hw\n  match 0ac80002/ffffffff at 16\n',
];
const PROC = [
  'cpu  10 0 20 300 40 0 5 0 0 0\ncpu0 5 0 10 150 20 0 2 0 0 0\n',
  'Inter-|   Receive\n face |bytes\n  eth0: 100 2 0 0 0 0 0 0 30 4 0 0 0 0 0 0\n',
  'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\n',
  `${'0'.repeat(32)} 00 ${'0'.repeat(32)} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n`,
  '1024-1030,40000-49999',
  'cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\nproc /proc proc rw 0 0\n',
  JSON.stringify([
    { dst: '203.0.113.0/24', dev: 'eth0', scope: 'link' },
    { dst: 'default', gateway: '203.0.113.1', dev: 'eth0' },
  ]),
  JSON.stringify([{ ifname: 'eth0', addr_info: [{ local: '2001:db8:1:2::5', prefixlen: 64 }] }]),
];

/** What `tc`, /proc and /sys say of this machine. */
export const machineText: Target = {
  name: 'machine-text',
  shape: 'text',
  words: ['fh 10:', 'flowid 1:', 'match ', '/ffffffff at 16', 'rate ', 'Mbit', 'Gbit', 'parent 1:', 'eth0:', '-', ','],
  open: async () => ({
    make: (chance) => bytesOf(chance.oneIn(2) ? chance.of(TC) : chance.of(PROC)),
    run(input) {
      const text = textOf(input);
      const side = parseSide({ qdiscs: text, classes: text, filters: text });
      for (const [address, { node, classId }] of side.filters) {
        must(parseIp(address).ok, 'a filter of no address', address);
        must(/^1[01]:[0-9a-f]+:[0-9a-f]+$/.test(node) && Number.isFinite(classId), 'a filter nowhere', node);
      }
      for (const { rate, ceil } of side.classes.values())
        must(!(rate < 0) && !(ceil < 0), 'a rate below nothing', [rate, ceil]);
      const unallowed = parseUnallowed(text, 'eth0');
      must(unallowed === undefined || Number.isFinite(unallowed), 'packets are no number', unallowed);
      parseCpu(text);
      parseNetDev(text, uplinkNames(text, text));
      includesRange(text, { from: 40_000, to: 49_999 });
      const group = excludedGroup(text);
      must(group?.directory.startsWith('/sys/fs/cgroup/') ?? true, 'a group elsewhere', group?.directory);
      for (const [routes, addresses] of [
        [text, '[]'],
        ['[]', text],
      ] as const) {
        const networks = orRefused(
          () => onLinkNetworks({ routes: { 4: routes, 6: routes }, addresses }),
          ['dataplane'],
        );
        for (const network of networks ?? []) must(parseCidr(network).ok, 'a network that is none', network);
      }
    },
  }),
};
