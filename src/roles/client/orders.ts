import type { Log } from '../../core/ports/log.js';
import type { Command, CommandDone, RotatePeer } from '../../model/command.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { EventCode } from '../../model/event.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import { nodesOf, type ShutOut } from './held-session.js';
import type { Keeper } from './keeper.js';
import type { Releases } from './releases.js';
import type { Leaving } from './rotation.js';
import type { Standby } from './standby.js';
import type { Survival } from './survival.js';
import { type HeldTunnel, isInForce } from './tunnel.js';

export interface OrdersDeps {
  readonly log: Log;
  readonly keeper: Keeper;
  readonly releases: Releases;
  readonly standby: Standby;
  readonly survival: Survival;
  readonly revocations: ShutOut;
  /** The first tunnel of a wish is being asked for. */
  readonly requesting: () => boolean;
  /** Somebody changes the exit already. */
  readonly rotating: () => boolean;
  readonly rotate: (reason: string, leave: Leaving) => Promise<void>;
  readonly happened: (code: EventCode, text: string, session?: SessionId) => void;
  readonly changed: () => void;
}

const DONE: CommandDone = { offer: undefined };

/** What supernodes say of the sessions they granted, and base of nodes that are shut out. */
export class Orders {
  constructor(private readonly deps: OrdersDeps) {}

  /** Rejects with `forbidden`, `not-supported`, `no-session`, `stale-generation`, or what moving a path rejects with. */
  async command(command: Command, supervisor: PeerId): Promise<CommandDone> {
    const { keeper, changed } = this.deps;
    const { desired, session } = command;
    const tunnel = keeper.tunnels.withSession(session);
    if (tunnel !== undefined && tunnel.held.supervisor !== supervisor) {
      throw new VpndError('forbidden', `session ${session} belongs to another supervisor`);
    }
    if (desired.kind === 'disconnect') {
      this.#disconnected(session, desired.reason);
      return DONE;
    }
    if (desired.kind !== 'relay-update' && desired.kind !== 'rotate-peer') {
      throw new VpndError('not-supported', `${desired.kind} is not for clients`);
    }
    if (tunnel === undefined || !isInForce(tunnel)) {
      throw new VpndError('no-session', `session ${session} is not held here`);
    }
    if (command.generation < tunnel.held.generation) {
      throw new VpndError(
        'stale-generation',
        `generation ${command.generation} is older than ${tunnel.held.generation}`,
      );
    }
    if (desired.kind === 'relay-update') {
      await keeper.paths.move(tunnel, desired);
      if (desired.path !== 'direct') keeper.handshakes.wayIsBack(tunnel);
      changed();
    } else this.#askedToMove(tunnel, desired);
    return DONE;
  }

  /** Nothing goes through nodes that are shut out: a tunnel that is ready takes over, or the traffic is held. */
  leaveShutOut(): void {
    const { keeper, revocations, survival } = this.deps;
    const gone = keeper.tunnels
      .held()
      .filter(({ held, use }) => use !== 'dead' && nodesOf(held).some(revocations.has, revocations));
    const isActive = ({ use, held }: HeldTunnel) => use === 'active' && held.connectedAfter !== undefined;
    // Spares first: one of them must not take over.
    for (const { slot } of gone.filter((one) => !isActive(one))) void keeper.close(slot, 'revoked');
    const active = gone.find(isActive);
    if (active === undefined || active.holds) return;
    const { session, supervisor, exit } = active.held;
    keeper.tell(supervisor, { kind: 'session-closed', session, reason: 'revoked' });
    const what = revocations.has(exit) ? `exit ${shortId(exit)}` : 'a supernode on its path';
    survival.lose(new VpndError('revoked', `${what} was shut out of the overlay`, { retryable: true }));
  }

  #disconnected(session: SessionId, reason: string): void {
    const { keeper, releases, requesting, standby, survival } = this.deps;
    if (releases.answered(session, reason)) return;
    const tunnel = keeper.tunnels.withSession(session);
    if (tunnel === undefined || !isInForce(tunnel)) return;
    const why = new VpndError('exit-gone', `the supernode ended it: ${reason}`, { retryable: true });
    // A request under way hears of it by itself.
    if (tunnel.held.connectedAfter === undefined && requesting()) return;
    if (tunnel.use === 'active') survival.lose(why);
    else void keeper.close(tunnel.slot, 'the supernode ended it').then(() => standby.nudge());
  }

  #askedToMove(tunnel: HeldTunnel, order: RotatePeer): void {
    const { log, keeper, standby, rotating, rotate, happened } = this.deps;
    const failed = (thrown: unknown) => {
      const error = toVpndError(thrown);
      log.info('the session stays where it is', { code: error.code, reason: error.message });
      happened('problem', `asked to move (${order.reason}), and could not: ${error.message}`, tunnel.held.session);
    };
    for (const exit of order.avoidExits) keeper.penalties.failed(exit);
    if (tunnel.use === 'active') {
      if (!rotating()) rotate(order.reason, order).catch(failed);
    } else if (tunnel.use === 'standby') {
      void keeper.close(tunnel.slot, order.reason).then(() => standby.now());
    }
  }
}
