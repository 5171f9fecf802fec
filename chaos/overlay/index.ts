export type { Home, Host } from '../lab/index.js';
export { activeSession, isUp, standbySession, statusOf, withStandby } from './client-view.js';
export { freezeDaemon, freezeMachine, killMachine, thawDaemon, thawMachine } from './faults.js';
export { Fleet, type FleetOptions, type PeerSpec, type SupernodeSpec } from './fleet.js';
export {
  addressesOn,
  kernelResidue,
  parseWireGuardDump,
  type RelayPort,
  relayElements,
  relayPorts,
  type WireGuardDevice,
  type WireGuardPeer,
  wireGuardDevices,
  wireGuardPeers,
} from './kernel.js';
export { download, type FirstPacket, firstPackets } from './measure.js';
export { LAB_UID, labUser, OverlayNode, type OverlayRole, vpnd } from './node.js';
export { ADDRESSES, Overlay, type OverlayOptions } from './overlay.js';
export { Pings } from './pings.js';
export { monotonicMs, PacketRecord, PacketTrain, type TrainRecord } from './train.js';
export { Transfer, type TransferOutcome } from './transfer.js';
