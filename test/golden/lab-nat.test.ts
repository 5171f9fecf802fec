import t from 'tap';
import { renderRouter } from '../../chaos/lab/nat.js';

const SIDES = { outside: 'eth0', inside: 'lan0', forwards: [] };

t.test('a port-preserving router is silent to strangers', async (t) => {
  t.equal(
    renderRouter({ ...SIDES, nat: 'port-preserving' }),
    `table inet router
delete table inet router
table inet router {
  chain source {
    type nat hook postrouting priority srcnat; policy accept;
    meta nfproto ipv4 oifname "eth0" masquerade
  }
  chain destination {
    type nat hook prerouting priority dstnat; policy accept;
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "eth0" ct state new meta l4proto { tcp, udp } drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "eth0" ct state new ct status & dnat != dnat drop
    iifname "eth0" ct state invalid drop
  }
}
`,
  );
});

t.test('the kinds differ where their names say', async (t) => {
  t.match(renderRouter({ ...SIDES, nat: 'random' }), / masquerade fully-random\n/);
  t.match(renderRouter({ ...SIDES, nat: 'udp-blocked' }), /iifname "lan0" udp dport != 53 drop/);
  t.notMatch(renderRouter({ ...SIDES, nat: 'none' }), /masquerade|drop/);
  t.match(
    renderRouter({ ...SIDES, nat: 'port-preserving', ports: [21000, 21999] }),
    /meta l4proto \{ tcp, udp \} masquerade to :21000-21999\n/,
  );
  t.match(
    renderRouter({
      ...SIDES,
      nat: 'port-preserving',
      forwards: [{ protocol: 'udp', port: 4000, to: '192.168.1.2', toPort: 51820 }],
    }),
    /iifname "eth0" udp dport 4000 dnat ip to 192\.168\.1\.2:51820/,
  );
});
