import t from 'tap';
import type { HostPort, Port } from '../../src/model/address.js';
import {
  type Anchor,
  judgeUplink,
  UNKNOWN,
  type UplinkRound,
  type UplinkState,
} from '../../src/roles/exit/uplink-check.js';

const at = (host: string): HostPort => ({ host, port: 443 as Port });
const BASE: Anchor = { at: at('192.0.2.1'), configured: false };
const OTHER: Anchor = { at: at('198.51.100.11'), configured: false };
const NAMED: Anchor = { at: at('www.example.net'), configured: true };

const round = (answered: readonly Anchor[], silent: readonly Anchor[], route = true): UplinkRound => ({
  route,
  answered,
  silent,
});
const after = (...rounds: readonly UplinkRound[]): UplinkState => rounds.reduce(judgeUplink, UNKNOWN);
const all = round([BASE, OTHER], []);
const none = round([], [BASE, OTHER]);

t.test('three rounds of silence of everybody who used to answer, and the internet is gone', async (t) => {
  t.match(after(all, none, none), { down: false });
  t.match(after(all, none, none, none), { down: true, reason: 'none of 2 servers answers any more' });
  t.match(after(all, none, none, all, none, none), { down: false }, 'one answer, and it begins anew');
  t.match(after(all, none, none, none, round([OTHER], [BASE])), { down: false }, 'one answer is enough to be back');
});

t.test('silence that says nothing about the internet', async (t) => {
  t.match(after(none, none, none, none), { down: false }, 'of those that never answered');
  const baseOnly = round([], [BASE]);
  t.match(after(all, baseOnly, baseOnly, baseOnly, baseOnly), { down: false }, 'of a single one');
  const half = round([BASE], [OTHER]);
  t.match(after(half, none, none, none, none), { down: false }, 'of a single one, and one that never answered');
});

t.test('what the owner names is enough by itself', async (t) => {
  const [up, down] = [round([NAMED], []), round([], [NAMED])];
  t.match(after(up, down, down, down), { down: true });
  t.match(after(down, down, down, down), { down: false }, 'once it has answered');
  const two: Anchor = { at: at('www.example.org'), configured: true };
  const both = round([], [NAMED, two]);
  t.match(after(round([NAMED], [two]), both, both, both), { down: false }, 'all of it, that is');
  const butBase = round([BASE], [NAMED]);
  t.match(after(up, butBase, butBase, butBase), { down: false }, 'and nobody else answers');
});

t.test('without a default route there is no internet', async (t) => {
  const gone = round([BASE, OTHER], [], false);
  t.match(after(all, gone), { down: true, reason: 'there is no default route' }, 'whoever on this network answers');
  t.match(after(all, gone, none), { down: true }, 'it comes back, and nobody answers yet');
  t.match(after(all, gone, all), { down: false });
  t.match(after(gone, gone), { down: false }, 'a machine that never had one finds its way by other means');
});
