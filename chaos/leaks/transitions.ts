import { cpSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { activeSession, isUp, killMachine, LAB_UID, statusOf, vpnd } from '../overlay/index.js';
import type { LeakBed, Run } from './bed.js';

/** Something that happens to a client with a tunnel, or on its way to one. */
export interface Transition {
  readonly name: string;
  /** For people, in a table. */
  readonly title: string;
  once(bed: LeakBed): Promise<Run>;
}

const REQUEST_LIMIT_MS = 60_000;
const SLEEP_MS = 4_000;
const DEAD_MS = 1_500;
const WITHOUT_EXIT_MS = 3_000;
/** What was built, in its place below the package. */
const BUILT = fileURLToPath(new URL('../../', import.meta.url));
const PACKAGE = fileURLToPath(new URL('../../../', import.meta.url));
/** As deploy/systemd/vpnd-lockdown.service runs it. */
const AS_UNIT = [
  ...['setpriv', '--reuid', `${LAB_UID}`, '--regid', `${LAB_UID}`, '--clear-groups', '--no-new-privs'],
  ...['--inh-caps=-all,+net_admin', '--ambient-caps=-all,+net_admin', '--bounding-set=-all,+net_admin', '--'],
];

/** A connected client, something that happens, and the tunnel carrying traffic again. */
const whileUp = (name: string, title: string, what: (bed: LeakBed) => Promise<void>): Transition => ({
  name,
  title,
  async once(bed) {
    await bed.ready();
    return bed.watch(() => what(bed));
  },
});

const active = async ({ client }: LeakBed) => activeSession(await client.api.status());
const exitInUse = async (bed: LeakBed): Promise<string> => bed.names.get((await active(bed))?.exitId ?? '') ?? '';
const supernodeInUse = async (bed: LeakBed): Promise<string> =>
  bed.names.get((await active(bed))?.supernodeId ?? '') ?? '';

async function anotherExit(bed: LeakBed, than: string): Promise<void> {
  const moved = (id = '') => bed.names.get(id) !== than;
  await statusOf(
    bed.client,
    (status) => isUp(activeSession(status)) && moved(activeSession(status)?.exitId),
    REQUEST_LIMIT_MS,
  );
}

const connect: Transition = {
  name: 'connect',
  title: '`vpnd up`, from the first packet through the tunnel on',
  async once(bed) {
    await bed.client.api.down();
    return bed.watch(() => bed.up(), { opens: true });
  },
};

const rotate = whileUp('rotate', 'rotation to another exit', async (bed) => {
  await bed.client.api.rotate({ reason: 'a test' }, AbortSignal.timeout(REQUEST_LIMIT_MS));
});

const failover: Transition = {
  name: 'failover',
  title: 'the exit in use is killed',
  async once(bed) {
    await bed.ready();
    const exit = await exitInUse(bed);
    const run = await bed.watch(async () => {
      const gone = anotherExit(bed, exit);
      await killMachine(bed.fleet.node(exit));
      await gone;
    });
    await bed.fleet.node(exit).start();
    return run;
  },
};

const drain: Transition = {
  name: 'drain',
  title: 'the supernode in use is drained and ends',
  async once(bed) {
    await bed.ready();
    const name = await supernodeInUse(bed);
    const run = await bed.watch(async () => {
      await bed.fleet.node(name).stop();
      await bed.carried();
    });
    await bed.fleet.node(name).start();
    return run;
  },
};

const sleep = whileUp('sleep', 'the machine sleeps and wakes', async (bed) => {
  const ids = bed.client.host.pids();
  const all = (signal: NodeJS.Signals) => {
    for (const id of ids) {
      try {
        process.kill(id, signal);
      } catch {
        // It has ended meanwhile.
      }
    }
  };
  all('SIGSTOP');
  await pause(SLEEP_MS);
  all('SIGCONT');
  await bed.carried();
});

const addressChange = whileUp('address-change', 'the machine is carried to another network', async (bed) => {
  await bed.move();
  await pause(DEAD_MS);
  await bed.carried();
});

const kill = whileUp('kill', 'kill -9 of the daemon, and its next start', async (bed) => {
  await bed.client.crash();
  await pause(DEAD_MS);
  await bed.client.start();
  await bed.carried();
});

const stop = whileUp('stop', 'the daemon is stopped, and started again', async (bed) => {
  await bed.client.stop();
  await pause(DEAD_MS);
  await bed.client.start();
  await bed.carried();
});

/** The new version is what the old one is, in another place; what a package replaces is the files, and then it restarts. */
const upgrade = whileUp('upgrade', 'other binaries are put in place and the daemon is restarted', async (bed) => {
  const { client } = bed;
  const place = join(client.host.directory, 'new-version');
  mkdirSync(place, { recursive: true });
  for (const part of ['bin', 'src', 'dataplane']) {
    cpSync(join(BUILT, part), join(place, 'dist', part), { recursive: true, force: true });
  }
  cpSync(join(PACKAGE, 'package.json'), join(place, 'package.json'), { force: true });
  try {
    symlinkSync(join(PACKAGE, 'node_modules'), join(place, 'node_modules'));
  } catch {
    // It is there since the last upgrade.
  }
  await client.stop();
  await client.start({ binary: join(place, 'dist/bin/vpnd.js') });
  await bed.carried();
});

const supernodeLoss: Transition = {
  name: 'supernode-loss',
  title: 'the supernode in use is killed',
  async once(bed) {
    await bed.ready();
    const name = await supernodeInUse(bed);
    const run = await bed.watch(async () => {
      await killMachine(bed.fleet.node(name));
      await pause(DEAD_MS);
      await bed.carried();
    });
    await bed.fleet.node(name).start();
    return run;
  },
};

const noExit: Transition = {
  name: 'no-exit',
  title: 'no exit is left, until one is back',
  async once(bed) {
    await bed.ready();
    const [first, ...rest] = bed.fleet.exits;
    return bed.watch(async () => {
      await Promise.all(bed.fleet.exits.map(killMachine));
      await pause(WITHOUT_EXIT_MS);
      await Promise.all([first, ...rest].map((one) => one?.start()));
      await bed.carried();
    });
  },
};

/** What of a reboot concerns packets: nothing of the kernel's state is left, rules are loaded, the network comes up. */
const reboot: Transition = {
  name: 'reboot',
  title: 'a reboot with lockdown on',
  async once(bed) {
    await bed.ready();
    const { client } = bed;
    const { host } = client;
    await bed.client.cli('lockdown', 'on');
    try {
      await killMachine(client);
      await host.linkDown();
      await host.nft('flush ruleset\n');
      for (const family of ['-4', '-6']) {
        await host.exec(['ip', family, 'rule', 'flush']);
        await host.exec(['ip', family, 'rule', 'add', 'lookup', 'main', 'priority', '32766']);
        await host.run(['ip', family, 'route', 'flush', 'proto', '118', 'table', 'all']);
      }
      await host.exec([...AS_UNIT, ...vpnd('lockdown', 'load', '--state-dir', client.stateDir)]);
      // The network comes up, as another one.
      await bed.move();
      return await bed.watch(async () => {
        await pause(DEAD_MS);
        await client.start();
        await bed.carried();
      });
    } finally {
      await client.cli('lockdown', 'off');
    }
  },
};

/** In an order in which each leaves to the next what that needs. */
export const TRANSITIONS: readonly Transition[] = [
  connect,
  rotate,
  failover,
  drain,
  sleep,
  addressChange,
  kill,
  stop,
  upgrade,
  supernodeLoss,
  noExit,
  reboot,
];
