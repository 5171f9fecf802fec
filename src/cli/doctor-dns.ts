import { existsSync } from 'node:fs';
import { openLinuxDns } from '../../dataplane/dns-linux.js';
import type { Dns } from '../core/ports/dns.js';
import { toVpndError } from '../model/errors.js';
import { fail, ok, type Verdict } from './doctor-report.js';
import { DNS_SOCKET } from './open-dns.js';

/** How names would be asked through a tunnel here, and by whom a client's daemon could have that done. Changes nothing. */
export async function checkResolver(
  dns: Dns = openLinuxDns(),
  uid = process.geteuid?.(),
  hasSocket = existsSync(DNS_SOCKET),
): Promise<Verdict> {
  let way: string;
  try {
    way = await dns.way();
  } catch (thrown) {
    return fail(toVpndError(thrown).message, 'mend it, or leave names alone (--dns off)');
  }
  const by = `names go through a tunnel by ${way}`;
  if (hasSocket) return ok(`${by}, set by vpnd-dns.socket`);
  if (uid === 0) return ok(`${by}, for a daemon started by root`);
  return fail(`${by}, which this user may not set`, 'enable vpnd-dns.socket, or start vpnd client as root');
}
