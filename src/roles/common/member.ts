import type { MemberConfig } from '../../config/types.js';
import { CLOCK_TOLERANCE } from '../../core/auth.js';
import type { DialTarget } from '../../core/ports/network.js';
import { VpndError } from '../../model/errors.js';
import type { PeerId } from '../../model/ids.js';
import type { Membership } from '../../model/membership.js';
import type { MemberRole } from '../../model/role.js';
import { type Millis, seconds, since } from '../../model/time.js';
import type { ForwardingPorts, RolePorts } from '../ports.js';
import { Anchoring } from './anchoring.js';
import {
  baseTargets,
  caOf,
  type Enrolment,
  renewalQuestion,
  renewDirect,
  renewed,
  saveEnrolment,
  supernodeTargets,
  tlsIdentityOf,
} from './enrol.js';
import { Homing } from './homing.js';
import type { NodeKeys } from './keys.js';
import { Latencies } from './latency.js';
import { PeerLine } from './line.js';
import { Recovery } from './line-recovery.js';
import { Lines } from './lines.js';
import { enrolled } from './member-enrolment.js';
import { KnownSupernodes } from './member-supernodes.js';
import type { Member, MemberHandlers, MemberSelf } from './member-types.js';
import { Renewer } from './renewal.js';
import { Revocations } from './revocations.js';
import { SecondLook } from './second-look.js';
import { Upstream } from './upstream.js';

export type { Member, MemberHandlers, MemberSelf } from './member-types.js';

/** What a member needs besides a role's ports, where there is one. */
type MemberPorts = RolePorts & Partial<Pick<ForwardingPorts, 'datagrams' | 'reach' | 'networkWatch'>>;

const RENEWAL_LIMIT = seconds(20);

/**
 * Enrols at the first start, and again with a token that it has not used yet; takes the enrolment from the store at
 * every other one, and asks base for a fresh membership or certificate where they ran out meanwhile. The streams are dialled by `start()`.
 */
export async function joinOverlay(
  role: MemberRole,
  config: MemberConfig,
  ports: MemberPorts,
  keys: NodeKeys,
  self: MemberSelf,
  handlers: MemberHandlers,
): Promise<Member> {
  const { store, clock, log } = ports;
  let enrolment = await enrolled(role, config, ports, keys);
  /** base's keys, as they are at the time somebody looks. */
  const trust = {
    get keys() {
      return enrolment.anchors.trust.baseKeys;
    },
  };
  let membership = await currentMembership();
  let clockOffset: Millis | undefined;
  const homes = () => self.homes?.() ?? [];
  /** Those whose reach must not be lost: homes, and where the lines are or go to. */
  const held = () => [...new Set([...homes(), ...all.flatMap((line) => line.supervisor() ?? [])])];
  const keep = (next: Enrolment) => {
    enrolment = next;
    saveEnrolment(store.facts, next);
  };

  const revocations = new Revocations({
    ...ports,
    baseKey: trust,
    mayBeOld: enrolment.anchors.trust.serial > 0,
    facts: store.facts,
    changed: (change) => {
      try {
        handlers.revoked?.(change);
      } catch (err) {
        log.error('taking away what belonged to nodes that are shut out failed', { err });
      }
      for (const line of all) {
        const at = line.supervisor();
        if (at !== undefined && revocations.has(at)) line.upstream.redial();
      }
      lines.sessionsChanged();
      lines.reconsider();
      handlers.changed();
    },
    missing: () => {
      for (const line of all) line.upstream.tell({ kind: 'revocations-wanted' });
    },
    report: (code, message) => {
      for (const line of all) line.upstream.tell({ kind: 'problem', code, message });
    },
  });
  /** As published, without those that are banned: whoever published them may not know yet, or not want to. */
  const published = () => enrolment.supernodes.filter((one) => !revocations.has(one.id));

  const latencies = new Latencies({
    clock,
    random: ports.random,
    log,
    // A supernode measures nobody: it is dialled to base, and to those that sessions ask for.
    datagrams: role === 'supernode' || self.discreet ? undefined : ports.datagrams,
    reach: role === 'supernode' || self.discreet ? undefined : ports.reach,
    supernodes: published,
    region: membership.region,
    held,
    changed: handlers.changed,
  });
  const known = new KnownSupernodes({
    role,
    region: membership.region,
    clock,
    homes,
    held,
    published,
    measured: (id) => latencies.of(id),
    keep: (supernodes) => {
      try {
        keep({ ...enrolment, supernodes });
      } catch (err) {
        // Known for now; a restart falls back on those known before.
        log.warn('the list of supernodes cannot be kept on disk', { err });
      }
    },
  });
  const first = newLine(0);
  const second = newLine(1);
  const lines = new Lines([first, second], {
    clock,
    region: membership.region,
    homes,
    supernodes: () => {
      const never = self.never?.() ?? [];
      return known.ranked().filter(({ id }) => !never.includes(id) || homes().includes(id));
    },
    lastChoice: () => self.lastChoice?.() ?? [],
    isServing: role === 'exit',
    hasAnswered: (id) => typeof latencies.of(id) === 'number',
  });
  const all = role === 'supernode' ? [first] : [first, second];
  const main = () => (role === 'supernode' ? first : lines.main());
  const recovery = new Recovery({
    clock,
    log,
    networkWatch: ports.networkWatch,
    lines: all,
    networkChanged: (state) => {
      latencies.forget();
      handlers.networkChanged?.(state);
    },
    woke: () => {
      latencies.forget();
      handlers.woke?.();
    },
  });
  const secondLook = new SecondLook({
    clock,
    self: keys.identity.id,
    lines: all,
    possible: () => known.ranked().filter((one) => !one.draining).length > 1,
    want: (want) => lines.glance(want),
  });
  const homing = new Homing({
    better: () => lines.better(),
    answers: async (supernode) => !latencies.canMeasure || (await latencies.measure(supernode)) !== 'none',
    clock,
    log,
  });
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

  const anchoring = new Anchoring({
    ...ports,
    enrolment: () => enrolment,
    keep,
    lines: all,
    main,
    renew,
    changed: () => {
      handlers.anchored?.();
      handlers.changed();
    },
  });

  return {
    id: keys.identity.id,
    startedAt: clock.now(),
    baseKey: trust,
    ca: () => caOf(enrolment),
    anchors: () => enrolment.anchors.chain,
    get upstream() {
      return main().upstream;
    },
    lines: () => all,
    main,
    lineTo: (supernode) => all.find((line) => line.isUp() && line.supervisor() === supernode),
    wantSecond: (want) => {
      if (role !== 'supernode') lines.wantSecond(want);
    },
    revocations,
    membership: () => membership,
    enrolment: () => enrolment,
    supernodes: () => known.ordered(),
    baseTargets: () => baseTargets(() => enrolment),
    tlsIdentity: () => {
      const identity = tlsIdentityOf(enrolment);
      if (identity === undefined) throw new VpndError('internal', `a ${role} has no TLS certificate`);
      return identity;
    },
    udp: () => main().udp(),
    clockOffset: () => clockOffset,
    health: () => {
      const { state, lastError } = main().upstream.status();
      return { ok: state === 'up', detail: state === 'up' ? 'connected' : (lastError?.message ?? state) };
    },
    start: () => {
      if (role === 'supernode') first.start();
      else lines.start();
      if (role !== 'supernode') secondLook.start();
      homing.start();
      recovery.start();
      latencies.start();
      anchoring.start();
      for (const renewer of renewers) renewer.start();
    },
    stop: async () => {
      secondLook.stop();
      homing.stop();
      recovery.stop();
      latencies.stop();
      anchoring.stop();
      revocations.stop();
      for (const renewer of renewers) renewer.stop();
      await lines.stop();
    },
  };

  function newLine(index: 0 | 1): PeerLine {
    const upstream = new Upstream(
      {
        identity: keys.identity,
        role,
        region: membership.region,
        membership: () => enrolment.membership,
        get wireguardKey() {
          return self.wireguardKey;
        },
        capabilities: self.capabilities,
        sessions: self.sessions,
        ...(self.supernode && { supernode: self.supernode }),
        ...(self.load && { load: self.load }),
        revocations: () => revocations.head,
        targets: () =>
          role === 'supernode' ? baseTargets(() => enrolment) : supernodeTargets(lines.targets(index), caOf(enrolment)),
      },
      ports,
      {
        up: (welcome, target) => {
          const at = supernodeOf(target);
          known.told(at, welcome.supernodes);
          // What it sends of its own accord, where its list is the newer one.
          for (const news of revocations.newerThan(welcome.revocations)) upstream.tell(news);
          clockOffset = since(welcome.serverTime, clock.now());
          line.welcomed(at, welcome.probeToken);
          lines.reconsider();
          void Promise.resolve(handlers.up?.(welcome, at)).catch((err: unknown) =>
            log.error('taking up a connection failed', { err }),
          );
        },
        down: (end, target) => {
          revocations.forget(supernodeOf(target));
          handlers.down?.(end, supernodeOf(target));
          lines.reconsider();
        },
        command: async (command, target) => {
          const from = supernodeOf(target);
          if (from === undefined || handlers.command === undefined) {
            throw new VpndError('not-supported', `a ${role} takes no commands from base`);
          }
          // It may begin or end what hangs on this supernode.
          return handlers.command(command, from).finally(() => lines.sessionsChanged());
        },
        news: (news, target) => {
          const from = supernodeOf(target);
          if (news.kind === 'revocations' || news.kind === 'revocations-wanted') {
            const answers =
              news.kind === 'revocations' ? revocations.take(from, news.change) : revocations.wanted(from);
            for (const answer of answers) upstream.tell(answer);
            return;
          }
          if (news.kind === 'anchors') {
            anchoring.take(news.chain);
            return;
          }
          if (news.kind === 'directory') known.told(from, news.supernodes);
          handlers.news?.(news, from);
          if (news.kind === 'directory') lines.reconsider();
        },
        datagrams: (session, packets, target) => {
          const from = supernodeOf(target);
          if (from !== undefined) handlers.datagrams?.(session, packets, from);
        },
        woke: () => recovery.woke(line),
        changed: () => {
          lines.reconsider();
          handlers.changed();
        },
      },
    );
    const line: PeerLine = new PeerLine(index, upstream, {
      clock,
      random: ports.random,
      log,
      identity: keys.identity,
      datagrams: ports.datagrams,
      supernode: (id) => published().find((one) => one.id === id),
      changed: handlers.changed,
    });
    return line;
  }

  /** Both at once, up the stream where there is one, else of base directly. */
  async function renew(): Promise<void> {
    const { upstream } = main();
    if (upstream.status().state === 'up') {
      const key = role === 'supernode' ? await ports.certificates.newRequest() : undefined;
      const answer = await upstream.ask(renewalQuestion(keys.identity, clock.now(), key?.csr), RENEWAL_LIMIT);
      if (answer.kind !== 'renewal') throw new VpndError('bad-message', 'the supervisor answered another question');
      keep(renewed(enrolment, answer.result, key?.privateKey, ports));
    } else {
      keep(await renewDirect(enrolment, keys.identity, ports));
    }
    membership = await currentMembership();
    revocations.mentioned(membership.epoch);
    handlers.certified?.();
  }

  async function currentMembership(): Promise<Membership> {
    const check = () => ports.statements.checkMembership(trust, enrolment.membership, clock.now(), CLOCK_TOLERANCE);
    let checked = check();
    if (!checked.ok && checked.error.code === 'membership-expired') {
      enrolment = await renewDirect(enrolment, keys.identity, ports);
      saveEnrolment(store.facts, enrolment);
      checked = check();
    }
    if (!checked.ok) throw checked.error;
    return checked.value;
  }
}

const supernodeOf = ({ expect }: DialTarget): PeerId | undefined =>
  expect.kind === 'supernode' ? expect.id : undefined;
