import { create } from '@bufbuild/protobuf';
import {
  DrainRequestSchema,
  RevokeMemberRequestSchema,
  UnrevokeMemberRequestSchema,
} from '../../../src/gen/vpnd/v1/admin_pb.js';
import { Path } from '../../../src/gen/vpnd/v1/types_pb.js';
import { unitIdOf } from '../../../src/model/dataplane.js';
import { VpndError } from '../../../src/model/errors.js';
import { type Millis, ms, seconds } from '../../../src/model/time.js';
import type { Machine } from '../../support/overlay-world/machine.js';
import { CLEAR } from '../../support/overlay-world/weather.js';
import type { OverlayWorld } from '../../support/overlay-world.js';
import type { Deed, Story } from './story.js';

/** As the units of systemd say: a daemon that gave up is started again so much later. */
const RESTART_AFTER = seconds(5);
/** How long a program that the kernel is changed with may take before it is killed and counts as failed. */
const HANGS_FOR = seconds(5);
const PATHS = { direct: Path.DIRECT, relay: Path.RELAY, any: Path.UNSPECIFIED } as const;

/** Makes deeds happen, and undoes them when their time is over. Never lets virtual time pass by itself. */
export class Stage {
  /** Clients whose user waits for an answer. */
  readonly asking = new Map<string, object>();
  /** Until when a kernel may differ from what it should hold, by machine. */
  readonly excused = new Map<string, number>();
  /** Who is shut out by now, and with which epoch of base's list that was said. */
  readonly shutOut = new Map<string, { readonly epoch: number; readonly at: number }>();
  /** Since when each daemon has run without a break, standing still included as one. */
  readonly steadySince = new Map<string, number>();
  readonly #faults = new Map<string, () => void>();
  readonly #working = new Set<object>();
  #moves = 0;
  #healing = false;

  constructor(
    private readonly world: OverlayWorld,
    private readonly kind: Story['kind'],
  ) {}

  perform(deed: Deed): void {
    const { world } = this;
    const machine = world.node(deed.who);
    const runs = machine.process !== undefined && machine.awake;
    // A daemon that starts with a wrong clock has nothing else to tell by how old its leases are.
    const ends = deed.do === 'crash' || deed.do === 'restart';
    if (this.kind === 'control' && ((ends && machine.skew !== 0) || (deed.do === 'clock' && !runs))) return;
    switch (deed.do) {
      case 'up':
        this.#ask(machine, () => world.upSoon(deed.who, deed.region === undefined ? {} : { region: deed.region }));
        return;
      case 'down':
        this.#ask(machine, () => world.downSoon(deed.who));
        return;
      case 'rotate':
        this.#ask(machine, () => world.rotateSoon(deed.who));
        return;
      case 'path':
        this.#ask(machine, () => world.pathSoon(deed.who, PATHS[deed.path]));
        return;
      case 'rebind':
        world.rebind(deed.who);
        return;
      case 'restart':
        if (runs) this.#background(this.#restart(machine));
        return;
      case 'crash':
      case 'power-off':
        if (runs) this.#kill(machine, deed.do === 'crash' ? 'process' : 'power-off', deed.lasts);
        return;
      case 'die':
        this.#dieAt(machine, deed);
        return;
      case 'reset':
        world.internet.reset(machine.ip, world.node(deed.other).ip);
        return;
      case 'cut':
        world.partition(deed.who, deed.other, deed.what);
        this.#fault(`cut ${deed.who} ${deed.other}`, deed.lasts, () => world.heal(deed.who, deed.other));
        return;
      case 'kernel':
        this.#breakKernel(machine, deed);
        return;
      case 'disk':
        machine.store.failWrites(
          new VpndError('disk-full', deed.how === 'full' ? 'no space left' : 'the file system is read-only'),
        );
        machine.diskIsStale = true;
        this.#fault(`disk ${deed.who}`, deed.lasts, () => {
          machine.store.failWrites(undefined);
          // What it did not take is written within a moment.
          this.world.clock.after(CAUGHT_UP, () => {
            machine.diskIsStale = this.#faults.has(`disk ${deed.who}`);
          });
        });
        return;
      case 'move':
        this.#move(machine, deed);
        return;
      case 'freeze':
        if (!runs) return;
        world.sleep(deed.who);
        this.#fault(`freeze ${deed.who}`, deed.lasts, () => {
          world.wake(deed.who);
          this.steadySince.set(deed.who, this.#now);
        });
        return;
      case 'stall':
        if (!runs) return;
        world.stall(deed.who);
        this.excuse(deed.who, ms(deed.lasts));
        this.#fault(`freeze ${deed.who}`, deed.lasts, () => {
          world.resume(deed.who);
          this.steadySince.set(deed.who, this.#now);
        });
        return;
      case 'unplug':
        world.unplug(deed.who);
        this.#fault(`unplug ${deed.who}`, deed.lasts, () => world.plug(deed.who));
        return;
      case 'no-internet':
        this.#cutOff(machine, deed.lasts);
        return;
      case 'no-udp':
        world.blockUdp(deed.who);
        this.#fault(`no-udp ${deed.who}`, deed.lasts, () => world.blockUdp(deed.who, false));
        return;
      case 'vandal':
        this.#vandalise(machine, deed.pick);
        return;
      case 'weather':
        machine.weather = { ...deed, jitter: ms(deed.jitter), delay: ms(deed.delay) };
        this.#fault(`weather ${deed.who}`, deed.lasts, () => {
          machine.weather = CLEAR;
        });
        return;
      case 'clock':
        machine.skew = deed.by;
        this.#fault(`clock ${deed.who}`, deed.lasts, () => {
          machine.skew = 0;
        });
        return;
      case 'shut-out':
        this.#background(this.#shutOut(machine, deed.lasts));
        return;
      case 'drain':
        this.#drain(machine, deed.lasts);
        return;
    }
  }

  /** Everything works again, and every daemon runs or is being started. */
  heal(): void {
    this.#healing = true;
    for (const undo of [...this.#faults.values()]) undo();
    for (const machine of this.world.all()) {
      machine.deed = () => {};
      machine.kernelFault = () => undefined;
      machine.kernelLie = () => undefined;
      machine.kernelTakes = ms(0);
      machine.store.failWrites(undefined);
      if (machine.clock?.alive !== true) this.#startAgain(machine, 0);
    }
  }

  /** Whether anybody still waits for an answer, or anything is still being started or said. */
  get busy(): boolean {
    return this.asking.size > 0 || this.#working.size > 0 || this.world.all().some((one) => one.process === undefined);
  }

  /** For so long its kernel may differ from what it should hold, and for a comparison more. */
  excuse(who: string, time: Millis = ms(0)): void {
    const until = this.#now + time + COMPARED;
    this.excused.set(who, Math.max(until, this.excused.get(who) ?? 0));
  }

  isExcused(who: string): boolean {
    return (this.excused.get(who) ?? 0) > this.#now;
  }

  get #now(): number {
    return this.world.clock.monotonic();
  }

  #ask(machine: Machine, ask: () => PromiseLike<unknown>): void {
    const { name } = machine;
    if (machine.process === undefined || !machine.awake || this.asking.has(name)) return;
    const asked = {};
    this.asking.set(name, asked);
    const answered = () => {
      if (this.asking.get(name) === asked) this.asking.delete(name);
    };
    Promise.resolve(ask()).then(answered, answered);
  }

  #background(work: Promise<unknown>): void {
    const one = {};
    this.#working.add(one);
    const done = () => void this.#working.delete(one);
    work.then(done, done);
  }

  #kill(machine: Machine, how: 'process' | 'power-off', lasts: number): void {
    const { name } = machine;
    this.asking.delete(name);
    machine.deed = () => {};
    this.world.crash(name, how);
    this.#startAgain(machine, lasts);
  }

  #startAgain(machine: Machine, after: number): void {
    const { name } = machine;
    this.world.clock.after(ms(this.#healing ? 0 : after), () => {
      if (machine.clock?.alive === true) return;
      const isUp = () => {
        this.steadySince.set(name, this.#now);
        if (machine.process === undefined && machine.clock?.alive !== true) this.#startAgain(machine, RESTART_AFTER);
      };
      this.#background(
        this.world.startSoon(name).then(isUp, () => {
          // Healed or not: systemd waits before it tries again.
          this.world.clock.after(RESTART_AFTER, () => this.#startAgain(machine, 0));
        }),
      );
    });
  }

  async #restart(machine: Machine): Promise<void> {
    const { name } = machine;
    this.asking.delete(name);
    const own = machine.clock;
    // systemd kills what has not stopped after a while.
    this.world.clock.after(seconds(20), () => {
      if (own?.alive === true) this.#kill(machine, 'process', 100);
    });
    await machine.running.stop();
    if (own?.alive === true && machine.clock === own) this.#kill(machine, 'process', 100);
  }

  #dieAt(machine: Machine, deed: Extract<Deed, { do: 'die' }>): void {
    let left = deed.nth;
    machine.deed = (kind, when) => {
      if (kind !== deed.at || when !== deed.when || --left > 0) return;
      this.#kill(machine, deed.power ? 'power-off' : 'process', deed.lasts);
    };
    this.#fault(`die ${deed.who}`, 60_000, () => {
      machine.deed = () => {};
    });
  }

  #breakKernel(machine: Machine, { who, how, times }: Extract<Deed, { do: 'kernel' }>): void {
    const error = new VpndError('dataplane', 'the kernel said no');
    let left = times;
    const next = () => {
      this.excuse(who, how === 'hangs' ? HANGS_FOR : ms(0));
      if (left-- > 0) return error;
      machine.kernelFault = () => undefined;
      machine.kernelLie = () => undefined;
      machine.kernelTakes = ms(0);
      return undefined;
    };
    if (how === 'lies') machine.kernelLie = next;
    else machine.kernelFault = next;
    if (how === 'hangs') machine.kernelTakes = HANGS_FOR;
    this.excuse(who, how === 'hangs' ? ms(3 * HANGS_FOR) : ms(0));
  }

  #move(machine: Machine, { who, router }: Extract<Deed, { do: 'move' }>): void {
    // What is cut is cut by address.
    for (const [what, undo] of [...this.#faults])
      if (/^(cut|no-internet) /.test(what) && what.split(' ').includes(who)) undo();
    this.#moves++;
    this.world.move(
      machine.name,
      `198.51.101.${this.#moves}`,
      router === 'none' ? 'none' : { ...router, life: ms(router.life) },
    );
  }

  #cutOff(machine: Machine, lasts: number): void {
    if (!machine.uplink) return;
    const { world } = this;
    this.#background(
      world.upstream(machine.name).then((upstream) => {
        const supervisor = world.all().find((one) => one.id === upstream?.supervisorId);
        world.cutUplink(machine.name, supervisor?.name);
        this.#fault(`no-internet ${machine.name}`, lasts, () => world.mendUplink(machine.name));
      }),
    );
  }

  /** Routes, rules, devices may all go: what holds a client's traffic then is the kill switch, which stays. */
  #vandalise(machine: Machine, pick: number): void {
    const units = machine.kernel.units().filter((unit) => unit.kind !== 'kill-switch');
    const unit = units[Math.floor(pick * units.length)];
    if (unit === undefined) return;
    machine.kernel.vandalise(unitIdOf(unit));
    this.excuse(machine.name);
  }

  async #shutOut(machine: Machine, lasts: number | 'for good'): Promise<void> {
    const { name, id, role } = machine;
    const { base } = this.world;
    if (base.process === undefined || !base.awake || this.shutOut.has(name)) return;
    const supernode = role === 'supernode';
    const done = await base.running.local.revokeMember?.(
      create(RevokeMemberRequestSchema, { peer: id, supernode, reason: 'a simulation' }),
    );
    if (done === undefined) return;
    this.shutOut.set(name, { epoch: Number(done.epoch), at: this.#now });
    if (lasts !== 'for good') this.#fault(`shut-out ${name}`, lasts, () => this.#letIn(machine, supernode));
  }

  #letIn(machine: Machine, supernode: boolean): void {
    const { base, clock } = this.world;
    const ask = base.process?.role.local.unrevokeMember?.(
      create(UnrevokeMemberRequestSchema, { peer: machine.id, supernode }),
    );
    const again = () => void clock.after(RESTART_AFTER, () => this.#letIn(machine, supernode));
    // It may be let in from the moment on at which base was asked, whatever becomes of the answer.
    this.shutOut.delete(machine.name);
    if (ask === undefined || !base.awake) again();
    else this.#background(Promise.resolve(ask).then(() => {}, again));
  }

  #drain(machine: Machine, lasts: number): void {
    const { drain } = machine.process?.role.local ?? {};
    if (drain === undefined || !machine.awake) return;
    const own = machine.clock;
    const request = create(DrainRequestSchema, { timeoutMs: BigInt(lasts) });
    const watch = async () => {
      for await (const _ of drain(request, new AbortController().signal)) if (own?.alive !== true) return;
    };
    watch().catch(() => {});
    this.#fault(`drain ${machine.name}`, lasts, () => {
      if (own?.alive === true && machine.process !== undefined) this.#background(this.#restart(machine));
    });
  }

  /** One of a name at a time: another one takes its place. */
  #fault(what: string, lasts: number, undo: () => void): void {
    this.#faults.get(what)?.();
    let isOver = false;
    const over = () => {
      if (isOver) return;
      isOver = true;
      cancel();
      if (this.#faults.get(what) === over) this.#faults.delete(what);
      undo();
    };
    const cancel = this.world.clock.after(ms(lasts), over);
    this.#faults.set(what, over);
  }
}

/** Clients write what their disk did not take once a second. */
const CAUGHT_UP = ms(2_500);
/** Every daemon compares its kernel with what it should hold every thirty seconds. */
const COMPARED = 32_000;
