export { download, type FirstPacket, firstPackets } from './measure.js';
export { OverlayNode, type OverlayRole, vpnd } from './node.js';
export { ADDRESSES, Overlay, type OverlayOptions } from './overlay.js';
