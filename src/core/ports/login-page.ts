import type { IpAddress } from '../../model/address.js';

/** A network that lets nothing out before somebody has logged in (RFC 8952: a captive portal). */
export interface LoginPage {
  /** Where it leads; undefined where it does not say. */
  readonly url: string | undefined;
}

/**
 * Asks a supernode's machine by plain HTTP, where nothing but such a network answers in its place. `names` are hosts that
 * the machine's own web server may lead to. Undefined where nothing wants a log-in. Never rejects. Real:
 * src/transport/login-page.ts.
 */
export type FindLoginPage = (at: IpAddress, names: readonly string[]) => Promise<LoginPage | undefined>;
