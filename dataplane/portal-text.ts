import type { PortalPass } from '../src/core/ports/portal.js';
import { familyOf } from '../src/model/address.js';
import { EXCLUDED_MARK, PORTAL_NAMES_MARK } from './kill-switch-text.js';

/** Of connections that may leave, for what comes back on them. */
const PORTAL_MARK = 0x76706e04;
/** Plain and encrypted HTTP: what log-in pages are. No QUIC: it would be no page's first question. */
const WEB_PORTS = [80, 443];
const NAMES = 53;

/**
 * What programs in the control group send to the web, and to the network's own resolvers for names, goes the way that
 * `vpnd exclude` has made for programs outside the tunnels: by a mark. The mark is given as long as the elements live, packet by packet: when
 * their time is over the kernel forgets them, and connections that are still open are held like everything. Names have a mark of their own
 * once their way is found: the kill switch lets none of the others' out.
 */
export function renderPortal(name: string, cgroup: string, { resolvers, duration }: PortalPass): string {
  const timeout = `timeout ${Math.max(1, Math.round(duration / 1_000))}s`;
  const elements = (keys: readonly (string | number)[]) =>
    keys.length === 0 ? '' : `    elements = { ${keys.map((key) => `${key} ${timeout}`).join(', ')} }\n`;
  const set = (of: string, type: string, keys: readonly (string | number)[]) =>
    `  set ${of} {\n    type ${type}\n    flags timeout\n${elements(keys)}  }\n`;
  const pass = `ct mark set ${PORTAL_MARK} meta mark set ${EXCLUDED_MARK}`;
  const own = (family: 4 | 6) => resolvers.filter((ip) => familyOf(ip) === family);
  return `table inet ${name} {
  set programs {
    type cgroupsv2
    elements = { "${cgroup}" }
  }
${set('web', 'inet_service', WEB_PORTS)}${set('resolvers4', 'ipv4_addr', own(4))}${set('resolvers6', 'ipv6_addr', own(6))}  chain leave {
    type route hook output priority mangle; policy accept;
    oifname "lo" return
    socket cgroupv2 level 1 @programs jump pass
  }
  chain pass {
    tcp dport @web ${pass}
    ip daddr @resolvers4 meta l4proto { tcp, udp } th dport ${NAMES} ${pass}
    ip6 daddr @resolvers6 meta l4proto { tcp, udp } th dport ${NAMES} ${pass}
  }
  chain names {
    type filter hook output priority mangle + 200; policy accept;
    ct mark ${PORTAL_MARK} meta mark ${EXCLUDED_MARK} meta l4proto { tcp, udp } th dport ${NAMES} meta mark set ${PORTAL_NAMES_MARK}
  }
  chain answers {
    type filter hook prerouting priority mangle; policy accept;
    ct mark ${PORTAL_MARK} meta mark set ${EXCLUDED_MARK}
  }
  chain address {
    type nat hook postrouting priority srcnat; policy accept;
    ct mark ${PORTAL_MARK} oifname != "lo" masquerade
  }
}
`;
}
