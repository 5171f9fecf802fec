import type { Network, ServeOptions, Server } from '../../core/ports/network.js';
import type { HostPort } from '../../model/address.js';

/**
 * One service on several addresses: networks differ in what they let out. Rejects like `Network.serve`, and listens
 * nowhere then. `address` is the first one's.
 */
export async function serveOn(
  network: Pick<Network, 'serve'>,
  [first, ...more]: readonly [HostPort, ...HostPort[]],
  options: Omit<ServeOptions, 'listen'>,
): Promise<Server> {
  const main = await network.serve({ ...options, listen: first });
  const servers = [main];
  const close = async (): Promise<void> => {
    await Promise.all(servers.map((server) => server.close()));
  };
  try {
    for (const listen of more) servers.push(await network.serve({ ...options, listen }));
  } catch (thrown) {
    await close();
    throw thrown;
  }
  return {
    address: main.address,
    renewed: () => {
      for (const server of servers) server.renewed();
    },
    close,
  };
}
