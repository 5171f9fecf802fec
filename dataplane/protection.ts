import type { Log } from '../src/core/ports/log.js';
import { KILL_SWITCH, type KillSwitchUnit, type Unit, type UnitId } from '../src/model/dataplane.js';
import { ExcludedPrograms } from './excluded-programs.js';
import { KillSwitch } from './kill-switch.js';
import { LockdownFile } from './lockdown-file.js';
import type { Repairs } from './relay.js';
import type { Runner } from './run.js';

const CLIENT = 'vpnd_client';

type Units = ReadonlyMap<UnitId, Unit>;

/** What keeps a client's traffic from leaving outside its tunnels: the kill switch, who may pass it, and what is kept for the next boot. */
export class Protection {
  readonly #killSwitch: KillSwitch;
  readonly #programs: ExcludedPrograms;
  readonly #file: LockdownFile | undefined;

  /** Whether the kernel may hold anything of it: an exit and a supernode need not be asked, every half a minute. */
  #isUsed: boolean;

  constructor(runner: Runner, owner: string, log: Log, lockdownFile: string | undefined) {
    this.#isUsed = owner === CLIENT;
    this.#killSwitch = new KillSwitch(runner, owner);
    this.#programs = new ExcludedPrograms(runner, owner, log);
    this.#file = lockdownFile === undefined ? undefined : new LockdownFile(lockdownFile, log);
  }

  async prime(): Promise<void> {
    if (!this.#isUsed) return;
    await Promise.all([this.#killSwitch.prime(), this.#programs.prime()]);
  }

  /** Whether a kill switch is kept for the next boot. */
  isLockedDown(): boolean {
    return this.#file?.exists() ?? false;
  }

  /** Before a change: endpoints of before and after are let out, so that no packet of a tunnel that moves is missing. */
  async widen(before: Units, after: Units): Promise<void> {
    const [old, wanted] = [killSwitchOf(before), killSwitchOf(after)];
    const both =
      old === undefined || wanted === undefined
        ? (wanted ?? old)
        : { ...wanted, endpoints: [...old.endpoints, ...wanted.endpoints], own: [...old.own, ...wanted.own] };
    if (both === undefined) return;
    this.#isUsed = true;
    await this.#killSwitch.apply(both);
  }

  /** After it: what is wanted, and nothing more. */
  async settle(before: Units, after: Units): Promise<void> {
    const wanted = killSwitchOf(after);
    if (wanted === undefined && killSwitchOf(before) === undefined) return;
    this.#keep(wanted);
    await this.#programs.apply(wanted !== undefined);
    await this.#killSwitch.apply(wanted);
  }

  async reconcile(desired: Units, repairs: Repairs): Promise<void> {
    const wanted = killSwitchOf(desired);
    this.#isUsed ||= wanted !== undefined;
    if (!this.#isUsed) return;
    await this.#killSwitch.reconcile(wanted, repairs);
    await this.#programs.reconcile(wanted !== undefined, repairs);
    this.#keep(wanted);
  }

  async inventory(): Promise<readonly string[]> {
    if (!this.#isUsed) return [];
    return (await Promise.all([this.#killSwitch.inventory(), this.#programs.inventory()])).flat();
  }

  /** Tunnels are gone after a boot: the ways to supernodes are what a daemon needs to make new ones. */
  #keep(wanted: KillSwitchUnit | undefined): void {
    if (wanted?.persist) this.#file?.write(this.#killSwitch.textOf({ ...wanted, endpoints: [] }));
    else this.#file?.remove();
  }
}

function killSwitchOf(units: Units): KillSwitchUnit | undefined {
  const unit = units.get(KILL_SWITCH);
  return unit?.kind === 'kill-switch' ? unit : undefined;
}
