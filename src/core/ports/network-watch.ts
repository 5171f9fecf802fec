/** The networks this machine is on, tunnels not counted. */
export interface NetworkState {
  /**
   * The same text as long as the machine is on the same networks with the same addresses: default routes' gateways and
   * devices, and the addresses it sends from. Empty without any default route.
   */
  readonly fingerprint: string;
  readonly connected: boolean;
}

/** News of the networks underneath: Wi-Fi to cable, another address, a cable pulled. Real: dataplane/network-watch.ts. */
export interface NetworkWatch {
  current(): NetworkState;
  /** Called after each change, once things have been quiet for a moment. The returned function ends it. */
  listen(listener: (state: NetworkState) => void): () => void;
}
