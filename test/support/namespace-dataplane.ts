import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Host } from '../../chaos/lab/index.js';
import type { LinuxDataPlaneOptions } from '../../dataplane/linux.js';
import type { DataPlane } from '../../src/core/ports/dataplane.js';
import type { DeviceTraffic, InterfaceName } from '../../src/model/dataplane.js';
import { type ErrorCode, VpndError } from '../../src/model/errors.js';

const AGENT = fileURLToPath(new URL('./namespace-agent.js', import.meta.url));

/** A Linux data plane on a host of a lab. */
export interface HostedDataPlane extends DataPlane {
  /** Kill the process as a crash does; what it made in the kernel stays. */
  crash(): Promise<void>;
  /** `traffic`, which cannot be asked across processes without waiting. */
  trafficOf(device: InterfaceName): Promise<DeviceTraffic | undefined>;
}

type Options = Omit<LinuxDataPlaneOptions, 'clock' | 'log'>;

interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: { readonly code: ErrorCode; readonly message: string };
}

/** Rejects with the VpndError that opening it was refused with. */
export async function openOnHost(host: Host, options: Options): Promise<HostedDataPlane> {
  const [program = '', ...args] = host.inside([process.execPath, AGENT, JSON.stringify(options)]);
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const calls = new Calls(child);
  const engine = (await calls.answerTo(0)) as DataPlane['engine'];
  return {
    engine,
    apply: (change) => calls.call('apply', change) as ReturnType<DataPlane['apply']>,
    reconcile: (desired) => calls.call('reconcile', desired) as ReturnType<DataPlane['reconcile']>,
    observePeers: () => calls.call('observePeers') as ReturnType<DataPlane['observePeers']>,
    observeRelays: () => calls.call('observeRelays') as ReturnType<DataPlane['observeRelays']>,
    // The real one answers at once, from this process' files; a test asks across a process instead.
    traffic: () => undefined,
    trafficOf: (device) => calls.call('traffic', device) as Promise<DeviceTraffic | undefined>,
    observeEgress: () => calls.call('observeEgress') as ReturnType<DataPlane['observeEgress']>,
    observePins: () => calls.call('observePins') as ReturnType<DataPlane['observePins']>,
    resetConnections: (from) => calls.call('resetConnections', from) as ReturnType<DataPlane['resetConnections']>,
    openConnections: (from) => calls.call('openConnections', from) as ReturnType<DataPlane['openConnections']>,
    // These, too: nobody asks for them here.
    lockedDown: () => false,
    excludedPrograms: () => undefined,
    uplinks: () => calls.call('uplinks') as ReturnType<DataPlane['uplinks']>,
    inventory: () => calls.call('inventory') as ReturnType<DataPlane['inventory']>,
    async close() {
      await calls.call('close');
      child.stdin?.end();
      await calls.ended;
    },
    async crash() {
      child.kill('SIGKILL');
      await calls.ended;
    },
  };
}

class Calls {
  readonly ended: Promise<void>;
  #next = 1;
  readonly #open = new Map<number, { resolve: (value: unknown) => void; reject: (reason: unknown) => void }>();

  constructor(private readonly child: ChildProcess) {
    this.ended = new Promise((resolve) => child.once('close', () => resolve()));
    void this.ended.then(() => {
      for (const { reject } of this.#open.values()) reject(new VpndError('closed', 'the data plane’s process ended'));
      this.#open.clear();
    });
    if (child.stdout === null) throw new Error('the data plane’s process has no output');
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { id, value, error } = JSON.parse(line) as Answer;
      const open = this.#open.get(id);
      this.#open.delete(id);
      if (error === undefined) open?.resolve(value);
      else open?.reject(new VpndError(error.code, error.message));
    });
  }

  answerTo(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => this.#open.set(id, { resolve, reject }));
  }

  call(call: keyof DataPlane, ...args: readonly unknown[]): Promise<unknown> {
    if (this.child.exitCode !== null) return Promise.reject(new VpndError('closed', 'the data plane’s process ended'));
    const id = this.#next++;
    const answer = this.answerTo(id);
    this.child.stdin?.write(`${JSON.stringify({ id, call, args })}\n`);
    return answer;
  }
}
