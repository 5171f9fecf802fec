/**
 * The process that starts programs for a daemon; see launcher.ts. It ends with the daemon, however that ends. Signals
 * meant for both (Ctrl-C, a service manager) leave it alone: the daemon still needs it to take things down.
 */
import { type Launched, launch } from './launch.js';

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.on('disconnect', () => process.exit());
process.on('message', async ({ id, what }: { readonly id: number; readonly what: Launched }) => {
  const ended = await launch(what);
  if (process.connected) process.send?.({ id, ended });
});
