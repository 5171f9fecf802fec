/** Stands in everything that the traffic program sends, and in nothing else. */
export const CANARY = 'leak-canary-5b1e';

export interface TrafficOptions {
  /** The web server, which also echoes datagrams. */
  readonly servers: { readonly 4: string; readonly 6: string };
  /** The home's router, where a home's resolver usually is. */
  readonly router: string;
  /** The home's public address: an echo that names it came back outside the tunnel. */
  readonly home: string;
  /** The outer card. */
  readonly device: string;
  readonly echoPort: number;
}
