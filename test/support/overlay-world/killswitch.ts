import type { Network } from '../../../src/core/ports/network.js';
import { formatHostPort, type HostPort, type IpAddress } from '../../../src/model/address.js';
import { VpndError } from '../../../src/model/errors.js';
import type { Host } from './host.js';

/** The network of a process whose machine may have tunnels: what is not exempt from them is not reached beside them. */
export function behindTunnels(network: Network, host: Host): Network {
  const check = (address: HostPort): void => {
    if (host.leavesBeside('tcp', { ip: address.host as IpAddress, port: address.port })) return;
    throw new VpndError('unreachable', `${formatHostPort(address)} is not exempt from the tunnel`, { retryable: true });
  };
  return {
    ...network,
    dialControl: async (target, options) => {
      check(target.address);
      return network.dialControl(target, options);
    },
    call: async (target, method, request, options) => {
      check(target.address);
      return network.call(target, method, request, options);
    },
  };
}
