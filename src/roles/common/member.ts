import type { MemberConfig } from '../../config/types.js';
import { CLOCK_TOLERANCE } from '../../core/auth.js';
import type { DialTarget, StreamEnd, TlsIdentity } from '../../core/ports/network.js';
import type { Bytes } from '../../model/bytes.js';
import type { Command, CommandDone } from '../../model/command.js';
import type { Load, SupernodeInfo } from '../../model/directory.js';
import { VpndError } from '../../model/errors.js';
import { type PeerId, shortId } from '../../model/ids.js';
import type { WireGuardPublicKey } from '../../model/keys.js';
import type { Membership } from '../../model/membership.js';
import type { AuthResponse, Capabilities, JoinToken, News } from '../../model/messages.js';
import type { MemberRole } from '../../model/role.js';
import type { SessionDigest } from '../../model/session.js';
import { type Instant, type Millis, seconds, since } from '../../model/time.js';
import type { ForwardingPorts, RolePorts } from '../ports.js';
import {
  baseTargets,
  type Enrolment,
  enrol,
  loadEnrolment,
  notEnrolled,
  renewalQuestion,
  renewDirect,
  renewed,
  saveEnrolment,
  supernodeTargets,
  tlsIdentityOf,
  tokenHash,
} from './enrol.js';
import { enrolmentAsked, enrolmentRefused } from './enrolment-facts.js';
import { Homing } from './homing.js';
import type { NodeKeys } from './keys.js';
import { Renewer } from './renewal.js';
import { Upstream } from './upstream.js';
import { vouchForUdp } from './vouching.js';

/** What a node says of itself on its stream. */
export interface MemberSelf {
  readonly wireguardKey: WireGuardPublicKey | undefined;
  readonly capabilities: () => Capabilities;
  /** Those that this supervisor knows: another's are nothing to repair for it. */
  readonly sessions: (supervisor: PeerId | undefined) => readonly SessionDigest[];
  /** The supervisor that the node's sessions belong to, to which it returns; undefined when it has none. */
  readonly home?: () => PeerId | undefined;
  readonly load?: () => Load;
  readonly supernode?: () => SupernodeInfo;
}

export interface MemberHandlers {
  up?(welcome: AuthResponse): Promise<void> | void;
  down?(end: StreamEnd): void;
  command?(command: Command, supervisor: PeerId): Promise<CommandDone>;
  news?(news: News): void;
  /** A certificate was renewed. */
  certified?(): void;
  changed(): void;
}

/** A node's place in the overlay: its enrolment, kept fresh, and its stream to its supervisor. */
export interface Member {
  readonly id: PeerId;
  readonly startedAt: Instant;
  readonly baseKey: Bytes;
  readonly ca: string;
  readonly upstream: Upstream;
  membership(): Membership;
  enrolment(): Enrolment;
  /** As last published, best first. */
  supernodes(): readonly SupernodeInfo[];
  baseTargets(): readonly DialTarget[];
  /** Supernodes only; throws for others. */
  tlsIdentity(): TlsIdentity;
  /** Whether UDP reaches the supernode; undefined before it was tried. */
  udp(): 'through' | 'blocked' | undefined;
  /** The supervisor's clock less this machine's, as of the last connection. */
  clockOffset(): Millis | undefined;
  health(): { readonly ok: boolean; readonly detail: string };
  start(): void;
  stop(): Promise<void>;
}

const RENEWAL_LIMIT = seconds(20);

/**
 * Enrols at the first start, and again with a token that it has not used yet; takes the enrolment from the store at
 * every other one, and asks base for a fresh membership or certificate where they ran out meanwhile. The stream is dialled by `start()`.
 */
export async function joinOverlay(
  role: MemberRole,
  config: MemberConfig,
  ports: RolePorts & Partial<Pick<ForwardingPorts, 'datagrams'>>,
  keys: NodeKeys,
  self: MemberSelf,
  handlers: MemberHandlers,
): Promise<Member> {
  const { store, clock, log } = ports;
  let enrolment = await enrolled(role, config, ports, keys);
  let membership = await currentMembership();
  let udp: 'through' | 'blocked' | undefined;
  let clockOffset: Millis | undefined;

  const keep = (next: Enrolment) => {
    enrolment = next;
    saveEnrolment(store.facts, next);
  };
  const learn = (supernodes: readonly SupernodeInfo[]) => {
    if (supernodes.length === 0) return;
    try {
      keep({ ...enrolment, supernodes });
    } catch (err) {
      // Known for now; a restart falls back on those known before.
      log.warn('the list of supernodes cannot be kept on disk', { err });
    }
  };

  const upstream: Upstream = new Upstream(
    {
      identity: keys.identity,
      role,
      region: membership.region,
      membership: () => enrolment.membership,
      wireguardKey: self.wireguardKey,
      capabilities: self.capabilities,
      sessions: self.sessions,
      ...(self.supernode && { supernode: self.supernode }),
      ...(self.load && { load: self.load }),
      targets: () =>
        role === 'supernode'
          ? baseTargets(() => enrolment)
          : supernodeTargets(homeFirst(enrolment.supernodes), enrolment.ca),
    },
    ports,
    {
      up: (welcome, target) => {
        learn(welcome.supernodes);
        clockOffset = since(welcome.serverTime, clock.now());
        void vouch(welcome, target);
        void Promise.resolve(handlers.up?.(welcome)).catch((err: unknown) =>
          log.error('taking up a connection failed', { err }),
        );
      },
      down: (end) => handlers.down?.(end),
      command: (command) => {
        const { expect } = upstream.status().supervisor ?? {};
        if (expect?.kind !== 'supernode' || handlers.command === undefined) {
          throw new VpndError('not-supported', `a ${role} takes no commands from base`);
        }
        return handlers.command(command, expect.id);
      },
      news: (news) => {
        if (news.kind === 'directory') learn(news.supernodes);
        handlers.news?.(news);
      },
      changed: handlers.changed,
    },
  );

  const homing = new Homing({ home: () => self.home?.() ?? regional(), upstream, clock, log });
  const renewers = [
    new Renewer({ what: 'the membership', after: 1 / 2, validity: () => membership, renew }, ports),
    ...(role === 'supernode'
      ? [
          new Renewer(
            {
              what: 'the TLS certificate',
              // Certificates are backdated by their own length, so this is two thirds of what is left at the issue.
              after: 5 / 6,
              validity: () => ports.certificates.validity(enrolment.certificate ?? ''),
              renew,
            },
            ports,
          ),
        ]
      : []),
  ];

  return {
    id: keys.identity.id,
    startedAt: clock.now(),
    baseKey: enrolment.baseKey,
    ca: enrolment.ca,
    upstream,
    membership: () => membership,
    enrolment: () => enrolment,
    supernodes: () => enrolment.supernodes,
    baseTargets: () => baseTargets(() => enrolment),
    tlsIdentity: () => {
      const identity = tlsIdentityOf(enrolment);
      if (identity === undefined) throw new VpndError('internal', `a ${role} has no TLS certificate`);
      return identity;
    },
    udp: () => udp,
    clockOffset: () => clockOffset,
    health: () => {
      const { state, lastError } = upstream.status();
      return { ok: state === 'up', detail: state === 'up' ? 'connected' : (lastError?.message ?? state) };
    },
    start: () => {
      upstream.start();
      homing.start();
      for (const renewer of renewers) renewer.start();
    },
    stop: async () => {
      homing.stop();
      for (const renewer of renewers) renewer.stop();
      await upstream.stop();
    },
  };

  /** Without sessions a node belongs to its region, where it is looked for; undefined while it is there. */
  function regional(): PeerId | undefined {
    const { expect } = upstream.status().supervisor ?? {};
    const own = enrolment.supernodes.filter((one) => one.region === membership.region);
    const isThere = expect?.kind !== 'supernode' || own.some((one) => one.id === expect.id);
    return isThere ? undefined : own[0]?.id;
  }

  function homeFirst(supernodes: readonly SupernodeInfo[]): readonly SupernodeInfo[] {
    const home = self.home?.();
    return [...supernodes.filter((one) => one.id === home), ...supernodes.filter((one) => one.id !== home)];
  }

  /** Both at once, up the stream where there is one, else of base directly. */
  async function renew(): Promise<void> {
    if (upstream.status().state === 'up') {
      const key = role === 'supernode' ? await ports.certificates.newRequest() : undefined;
      const answer = await upstream.ask(renewalQuestion(keys.identity, clock.now(), key?.csr), RENEWAL_LIMIT);
      if (answer.kind !== 'renewal') throw new VpndError('bad-message', 'the supervisor answered another question');
      keep(renewed(enrolment, answer.result, key?.privateKey, ports));
    } else {
      keep(await renewDirect(enrolment, keys.identity, ports));
    }
    membership = await currentMembership();
    handlers.certified?.();
  }

  async function currentMembership(): Promise<Membership> {
    const check = () =>
      ports.statements.checkMembership(enrolment.baseKey, enrolment.membership, clock.now(), CLOCK_TOLERANCE);
    let checked = check();
    if (!checked.ok && checked.error.code === 'membership-expired') {
      enrolment = await renewDirect(enrolment, keys.identity, ports);
      saveEnrolment(store.facts, enrolment);
      checked = check();
    }
    if (!checked.ok) throw checked.error;
    return checked.value;
  }

  async function vouch(welcome: AuthResponse, target: DialTarget): Promise<void> {
    const { expect } = target;
    const supernode =
      expect.kind === 'supernode' ? enrolment.supernodes.find((one) => one.id === expect.id) : undefined;
    if (supernode?.probePort === undefined || ports.datagrams === undefined) return;
    const reflector = { ips: supernode.relayIps, port: supernode.probePort };
    const seen = await vouchForUdp(
      { datagrams: ports.datagrams, random: ports.random },
      keys.identity,
      welcome.probeToken,
      reflector,
    );
    udp = [...seen.values()].some((endpoint) => endpoint !== undefined) ? 'through' : 'blocked';
    if (udp === 'blocked') {
      log.warn(
        `no UDP reaches supernode ${shortId(supernode.id)}: the network here blocks it, and WireGuard needs it`,
        {
          supernode_id: supernode.id,
        },
      );
    }
    handlers.changed();
  }
}

/** As the store has it; enrolled by base first when it has none, and anew when the token is one that was not used yet. */
async function enrolled(role: MemberRole, config: MemberConfig, ports: RolePorts, keys: NodeKeys): Promise<Enrolment> {
  const { facts } = ports.store;
  const known = loadEnrolment(facts);
  const token = keys.joinToken;
  if (known === undefined) {
    if (token === undefined) throw notEnrolled(role);
    const asking = { asked: () => enrolmentAsked(facts), refused: () => enrolmentRefused(facts) };
    const fresh = await enrol({ token, role, region: config.region, identity: keys.identity, ...asking }, ports);
    saveEnrolment(facts, fresh);
    return fresh;
  }
  if (known.role !== role) {
    throw new VpndError(
      'wrong-role',
      `${config.stateDir} belongs to a ${known.role}; give this ${role} a --state-dir of its own`,
    );
  }
  const isNew = token !== undefined && tokenHash(token, ports.crypto) !== known.token;
  const current = isNew ? await enrolledAnew(known, token, config, ports, keys) : known;
  if (config.region !== undefined && config.region !== current.region) {
    throw new VpndError(
      'wrong-region',
      `this node is enrolled in region ${current.region}, not ${config.region}; enrol it anew to move it`,
    );
  }
  return current;
}

/** What it was enrolled as holds on when the token is no good or base cannot be reached: a restart must not need either. */
async function enrolledAnew(
  known: Enrolment,
  token: JoinToken,
  config: MemberConfig,
  ports: RolePorts,
  { identity }: NodeKeys,
): Promise<Enrolment> {
  const { role } = known;
  try {
    const fresh = await enrol({ token, role, region: config.region, identity, before: known }, ports);
    saveEnrolment(ports.store.facts, fresh);
    return fresh;
  } catch (err) {
    ports.log.warn('the join token was not used: this node stays enrolled as it was', { err });
    return known;
  }
}
