import type { Endpoint, IpAddress, Port } from '../../model/address.js';

/** A network that lets nothing out before somebody has logged in (RFC 8952: a captive portal). */
export interface LoginPage {
  /** Where it leads: an address of the web in printable ASCII. Undefined where it does not say. */
  readonly url: string | undefined;
}

/**
 * Nobody's address (RFC 5737): whoever answers there has put himself between this machine and everybody. The one place
 * besides the overlay's own that is asked outside a tunnel, since no packet to it arrives anywhere.
 */
export const NOBODY: Endpoint = { ip: '192.0.2.1' as IpAddress, port: 80 as Port };

/**
 * Asks a supernode's machine by plain HTTP, and nobody's: such networks answer in the place of both. `names` are hosts
 * that the machine's own web server may lead to. Undefined where nothing wants a log-in. Never rejects. Real:
 * src/transport/login-page.ts.
 */
export type FindLoginPage = (at: IpAddress, names: readonly string[]) => Promise<LoginPage | undefined>;
