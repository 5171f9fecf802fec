export { Capture } from './capture.js';
export { Home, type HomeOptions } from './home.js';
export { Host } from './host.js';
export { createLab, Lab, type LabOptions, type PublicHostOptions } from './lab.js';
export type { NatKind } from './nat.js';
export { type PacketKind, type PacketSummary, summarize } from './packets.js';
export type { Exit, RunOptions, RunResult, Spawned, SpawnOptions } from './processes.js';
export { removeAbandonedLabs } from './residue.js';

export {
  ECHO_PORT,
  exchangeDatagrams,
  REFLECTOR_PORTS,
  type SeenDatagram,
  type SeenRequest,
  WebServer,
} from './web.js';
