import type { OverlayNode } from '../overlay/index.js';

/** Before its first start: a node gets a small disk of its own for its state. */
export async function smallDisk({ host, stateDir }: OverlayNode): Promise<void> {
  await host.exec(['mkdir', '-p', stateDir]);
  await host.exec(['mount', '-t', 'tmpfs', '-o', 'size=8m,mode=0700', 'none', stateDir]);
}

/** Empties a database's write-ahead log: what one holds is written over, full disk or not. */
const EMPTY_LOG = `
const db = require('better-sqlite3')(process.argv[1], { timeout: 10000 });
if (db.pragma('wal_checkpoint(TRUNCATE)')[0].busy !== 0) throw new Error('the log is in use');
db.close();
`;

/** Not a byte is free afterwards. */
export async function fillDisk({ host, stateDir }: OverlayNode): Promise<void> {
  await host.exec([process.execPath, '-e', EMPTY_LOG, `${stateDir}/vpnd.db`]);
  const filled = await host.run(['dd', 'if=/dev/zero', `of=${stateDir}/filler`, 'bs=4k']);
  if (!/No space left/.test(filled.stderr)) throw new Error(`the disk is not full: ${filled.stderr}`);
}

export async function emptyDisk({ host, stateDir }: OverlayNode): Promise<void> {
  await host.exec(['rm', `${stateDir}/filler`]);
}
