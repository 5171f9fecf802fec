import type { IpAddress } from '../model/address.js';
import { findLoginPage, type Places } from '../transport/login-page.js';
import { fail, ok, type Verdict } from './doctor-report.js';
import { plain } from './text.js';

/** Whether the network here wants a log-in first. The supernode's own machine is asked, so that nobody else hears of it. */
export async function checkPortal(at: IpAddress, names: readonly string[], places?: Places): Promise<Verdict> {
  const found = await findLoginPage(at, names, places);
  if (found === undefined) return ok('this network asks for no log-in page');
  return fail(
    `this network asks for a log-in page first${found.url === undefined ? '' : ` (${plain(found.url).slice(0, 120)})`}`,
    'log in with a browser; where all traffic is held, with one that sudo vpnd portal starts',
  );
}
