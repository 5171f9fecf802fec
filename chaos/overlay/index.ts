export { freezeDaemon, freezeMachine, killMachine, thawDaemon, thawMachine } from './faults.js';
export { Fleet, type FleetOptions, type PeerSpec, type SupernodeSpec } from './fleet.js';
export { download, type FirstPacket, firstPackets } from './measure.js';
export { OverlayNode, type OverlayRole, vpnd } from './node.js';
export { ADDRESSES, Overlay, type OverlayOptions } from './overlay.js';
export { Pings } from './pings.js';
export { monotonicMs, PacketRecord, PacketTrain, type TrainRecord } from './train.js';
export { Transfer, type TransferOutcome } from './transfer.js';
