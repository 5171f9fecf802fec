/**
 * The demonstration behind `make demo`: five daemons of the real binary on hosts made of network namespaces, one
 * session through both relays, one page. With HOLD=1 it stays up for playing. Ends with one line and exit status 0 or 1.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { ADDRESSES, download, firstPackets, Overlay, vpnd } from './overlay/index.js';

const DOWNLOAD_BYTES = 30_000_000;
const started = Date.now();

const hold = process.env.HOLD === '1';
let overlay: Overlay | undefined;
try {
  overlay = await show();
  if (hold) await stay(overlay);
} catch (thrown) {
  const why = thrown instanceof Error ? thrown.message : String(thrown);
  console.log(`DEMO FAILED ${why.split('\n').slice(0, 3).join(' | ')}`);
  process.exitCode = 1;
} finally {
  await overlay?.close();
}

async function show(): Promise<Overlay> {
  step('building an internet, two supernodes, two homes behind NAT and a web server from network namespaces');
  const made = await Overlay.build({ lab: { name: 'demo' }, exitIpv6: true });
  overlay = made;
  await made.startAll(step);

  const before = await made.seenIp();
  step(`without the tunnel the web server sees the client's own address, ${before}`);
  if (before !== ADDRESSES.clientHome)
    throw new Error(`expected ${ADDRESSES.clientHome}, the web server saw ${before}`);

  step('the client asks for an exit in region us: SETUP_EXIT and RELAY_SETUP go down the streams');
  const [first] = await firstPackets(made, 1, 'us');
  const seen = await made.seenIp();
  step(`a page through the tunnel: the web server now sees ${seen}, the exit's address`);
  const status = await made.client.json<{ sessions: { path: string }[] }>('status');
  const path = (status.sessions[0]?.path ?? '').replace('PATH_', '').toLowerCase();
  await onPath(made, 'relay');
  const mbps = await download(made, DOWNLOAD_BYTES);
  const tracked = await relayConntrack(made);
  const ms = Math.round(first?.firstPacketMs ?? 0);

  console.log(picture(seen, ms, mbps));
  step(`the relays track ${tracked} connections for it: they forward ciphertext, statelessly, in the kernel`);
  await onPath(made, 'direct');
  const direct = await download(made, DOWNLOAD_BYTES);
  step(`RELAY_UPDATE, through both NATs: the same session goes direct, ${Math.round(direct)} Mbit/s`);
  if (!hold) {
    const down = await made.client.cli('down');
    if (down.code !== 0) throw new Error(`vpnd down: ${down.stderr.trim()}`);
    const after = await made.seenIp();
    step(`after vpnd down the web server sees ${after} again`);
  }
  if (seen !== ADDRESSES.exitHome) throw new Error(`the web server saw ${seen}, not the exit's ${ADDRESSES.exitHome}`);
  if (path !== 'relay2') throw new Error(`the path was ${path}, not relay2`);
  console.log(
    `DEMO OK path=${path} seen_ip=${seen} exit_ip=${ADDRESSES.exitHome} first_packet_ms=${ms} mbps=${Math.round(mbps)}`,
  );
  return made;
}

async function onPath({ client }: Overlay, path: 'relay' | 'direct'): Promise<void> {
  const moved = await client.cli('path', path);
  if (moved.code !== 0) throw new Error(`vpnd path ${path}: ${moved.stderr.trim()}`);
}

/** Entries that the relays' kernels track for relayed datagrams; WireGuard's port range only. */
async function relayConntrack({ a, b }: Overlay): Promise<number> {
  const counts = await Promise.all(
    [a, b].map(async (node) => {
      const listed = await node.host.run(['conntrack', '-L', '-p', 'udp']);
      return listed.stdout.split('\n').filter((line) => /dport=4\d{3}[1-9]\b/.test(line)).length;
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

function step(text: string): void {
  console.log(`${((Date.now() - started) / 1000).toFixed(1).padStart(5)} s  ${text}`);
}

function picture(seen: string, firstPacketMs: number, mbps: number): string {
  return `
    client ── home NAT ══> supernode A ══> supernode B ══> home NAT ── exit ──> web
    192.168.2.2            ${ADDRESSES.a}    ${ADDRESSES.b}                192.168.1.2   ${ADDRESSES.web}
              ${ADDRESSES.clientHome}       region eu       region us        ${ADDRESSES.exitHome}
    ══ WireGuard, end to end between client and exit; A and B see ciphertext only
    first packet ${firstPacketMs} ms after the request, ${Math.round(mbps)} Mbit/s, the web server sees ${seen}
`;
}

async function stay(running: Overlay): Promise<void> {
  const line = (what: string, argv: readonly string[]) => console.log(`  # ${what}\n  ${argv.join(' ')}`);
  const { client, base, a, exit } = running;
  const inClient = (...argv: string[]) => client.host.inside(argv);
  console.log('\nIt stays up until you press Ctrl-C. Things to try in another terminal, as root:\n');
  line('what the client says', inClient(...vpnd('status', '--socket', client.socket)));
  line('exits to choose from', inClient(...vpnd('exits', '--socket', client.socket)));
  line('who the web server sees', inClient('curl', '-s', running.web.url));
  line('go offline, and online again', inClient(...vpnd('down', '--socket', client.socket)));
  line('', inClient(...vpnd('up', '--region', 'us', '--socket', client.socket)));
  line('the relay of supernode A', a.host.inside(['nft', 'list', 'ruleset']));
  line('the exit, as its owner sees it', exit.host.inside(vpnd('status', '--socket', exit.socket)));
  line(
    'another join token',
    base.host.inside(vpnd('token', 'create', '--role', 'client', '--region', 'eu', '--socket', base.socket)),
  );
  // The lab handles Ctrl-C: it takes everything down and ends this process.
  for (;;) await pause(3_600_000);
}
