import { VpndError } from '../src/model/errors.js';
import { type Millis, seconds } from '../src/model/time.js';
import { type Launch, launch } from './launch.js';
import { cleanEnvironment, findProgram } from './run.js';

/** Programs that look after a machine's resolver, where they are installed. */
export type DnsTool = 'resolvectl' | 'resolvconf';

export interface DnsTools {
  has(tool: DnsTool): boolean;
  /** Its standard output. Rejects with VpndError `no-tool` where it is missing, `dataplane` where it fails or hangs. */
  run(tool: DnsTool, args: readonly string[], input?: string): Promise<string>;
}

/** resolvectl waits 25 s for a D-Bus that does not answer. */
const TIMEOUT: Millis = seconds(8);

/** Programs from fixed directories, with argument vectors and nothing of this process's environment. */
export function openDnsTools(directories?: readonly string[], start: Launch = launch): DnsTools {
  return {
    has: (tool) => findProgram(tool, directories) !== undefined,
    async run(tool, args, input) {
      const path = findProgram(tool, directories);
      const details = { tool };
      if (path === undefined) throw new VpndError('no-tool', `${tool} is not installed`, { details });
      const ended = await start({ path, args, env: cleanEnvironment(), input, timeoutMs: TIMEOUT });
      if (ended.kind === 'not-started') {
        throw new VpndError('dataplane', `${tool} could not be started: ${ended.why}`, { details });
      }
      if (ended.code === 0 && ended.killed === undefined) return ended.stdout;
      const said = ended.killed ?? (ended.stderr.trim().split('\n')[0] || `exit status ${ended.code ?? ended.signal}`);
      throw new VpndError('dataplane', `${tool} failed: ${said.slice(0, 200)}`, { details });
    },
  };
}
