export { startBase } from './base.js';
export { type BaseKeys, loadBaseKeys } from './keys.js';
