import type { BaseConfig } from '../../config/types.js';
import type { CertificateAuthority } from '../../core/ports/authority.js';
import type { Server, UnaryContext } from '../../core/ports/network.js';
import type { BaseStore } from '../../core/ports/store.js';
import { RateLimiter } from '../../core/rate-limit.js';
import type { SupernodeInfo } from '../../model/directory.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import { keyOf, type PeerId } from '../../model/ids.js';
import type { Signed } from '../../model/membership.js';
import type { AuthResponse, InfoAnswer, InfoQuestion, News, RequestExitRegionResponse } from '../../model/messages.js';
import type { Revocation } from '../../model/revocation.js';
import type { Region } from '../../model/role.js';
import { type ConnectedPeer, StreamManager } from '../../transport/stream-manager.js';
import { Changes } from '../common/changes.js';
import { Erasing } from '../common/erasing.js';
import { shutOut } from '../common/revocations.js';
import type { RolePorts, RunningRole } from '../ports.js';
import { AddressBlocks } from './address-blocks.js';
import { type AnchorKind, BaseAnchors, rotateAnchor } from './anchors.js';
import { auditedAuthority } from './audited.js';
import { ANNOUNCE_NEWS_AFTER, SupernodeDirectory } from './directory.js';
import { Enrolment } from './enrolment.js';
import type { BaseKeys } from './keys.js';
import { Members } from './members.js';
import { OwnCertificate } from './own-certificate.js';
import { BaseRevocations } from './revocations.js';
import { baseStatus } from './status.js';
import { Tokens } from './tokens.js';

/** Supernodes at once; each serves thousands of peers. */
const MOST_SUPERNODES = 4_096;
/** Each is written to disk and told to everybody; draining and being back again are two. */
const NEWS_OF_ONESELF = { perMinute: 6, burst: 6 };
/** Lists of revocations that this base has forgotten, in parts, or is asked for. */
const LISTS = { perMinute: 30, burst: 20 };

/**
 * Starts base: enrolment, the directory of supernodes, address blocks. Resolves once it serves. Rejects with
 * `port-in-use`, `bad-config`, and whatever the store does.
 */
export async function startBase(config: BaseConfig, ports: RolePorts<BaseStore>, keys: BaseKeys): Promise<RunningRole> {
  const anchors = await BaseAnchors.open({
    ...ports,
    facts: ports.store.facts,
    keys,
    changed: (kind, chain) => base.anchored(kind, chain),
    erase: () => base.erase(),
  });
  const base: Base = new Base(config, ports, keys, anchors);
  await base.start();
  return base;
}

class Base implements RunningRole {
  readonly #blocks: AddressBlocks;
  readonly #directory: SupernodeDirectory;
  readonly #enrolment: Enrolment;
  readonly #tokens: Tokens;
  readonly #revocations: BaseRevocations;
  readonly #streams: StreamManager;
  readonly #authority: CertificateAuthority;
  readonly #erasing: Erasing;
  readonly #changes = new Changes();
  readonly #startedAt;
  readonly #shortOfBlocks = new Set<PeerId>();
  readonly #newsLimit: RateLimiter;
  readonly #listLimit: RateLimiter;
  #running: { readonly server: Server; readonly certificate: OwnCertificate } | undefined;

  readonly local: RunningRole['local'];

  constructor(
    private readonly config: BaseConfig,
    private readonly ports: RolePorts<BaseStore>,
    private readonly keys: BaseKeys,
    private readonly anchors: BaseAnchors,
  ) {
    this.#authority = auditedAuthority(anchors.authority, ports.audit);
    this.#erasing = new Erasing(ports);
    this.#startedAt = ports.clock.now();
    this.#newsLimit = new RateLimiter({ ...NEWS_OF_ONESELF, maxKeys: MOST_SUPERNODES }, ports.clock);
    this.#listLimit = new RateLimiter({ ...LISTS, maxKeys: MOST_SUPERNODES }, ports.clock);
    this.#blocks = new AddressBlocks(config);
    this.#directory = new SupernodeDirectory(
      ports.store.facts,
      {
        connected: (id) => this.#streams.peer(id) !== undefined,
        barred: (id) => this.#revocations.refusal(id) !== undefined,
        load: (id) => this.#streams.peer(id)?.load,
        announce: () => this.#announce(),
      },
      ports,
    );
    this.#revocations = new BaseRevocations(anchors.signer, anchors, ports, {
      shutOut: (peers) => this.#shutOut(peers),
      broadcast: (news) => this.#broadcast(news),
      changed: () => this.#changes.notify(),
    });
    const members = new Members(ports, this.#revocations);
    this.#enrolment = new Enrolment(
      config,
      { signer: anchors.signer, authority: this.#authority },
      this.#directory,
      this.#revocations,
      ports,
    );
    this.#tokens = new Tokens(
      {
        advertise: config.advertise,
        caKeyHash: () => anchors.authority.keyHash,
        baseKey: () => keyOf(anchors.signer.id),
      },
      ports,
      () => this.#changes.notify(),
    );
    this.#streams = new StreamManager(
      {
        self: undefined,
        baseKey: anchors,
        roles: ['supernode'],
        requireCertificate: true,
        capacity: MOST_SUPERNODES,
      },
      ports,
      {
        welcome: (peer) => this.#welcome(peer),
        barred: (claimed) => this.#revocations.refusal(claimed),
        revocations: () => this.#revocations.head,
        connected: (peer) => {
          if (anchors.chain.length > 0) this.#tell(peer.id, { kind: 'anchors', chain: anchors.chain });
          for (const news of this.#revocations.greeting(peer.id, peer.revocations)) this.#tell(peer.id, news);
          this.#streamsChanged();
        },
        disconnected: (peer) => {
          this.#revocations.forget(peer.id);
          this.#streamsChanged();
          this.#directory.leaves(peer.id);
        },
        info: (peer, question) => this.#info(peer, question),
        news: (peer, news) => {
          if (news.kind === 'revocations' || news.kind === 'revocations-wanted') this.#ofRevocations(peer.id, news);
          else if (news.kind === 'problem')
            ports.log.warn(`a supernode reports: ${news.message}`, { peer_id: peer.id, code: news.code });
          else if (news.kind === 'supernode')
            // It says it all again in its next AuthRequest, so that nothing it says is forgotten.
            this.#published(peer, news.supernode).catch((thrown: unknown) =>
              this.#streams.disconnect(peer.id, toVpndError(thrown)),
            );
        },
      },
    );
    this.local = {
      status: () => this.#status(),
      statusChanged: (signal) => this.#changes.next(signal),
      createToken: (request) => this.#tokens.create(request),
      listTokens: () => this.#tokens.list(),
      revokeToken: (request) => this.#tokens.revoke(request),
      listMembers: (request) => members.list(request),
      revokeMember: (request) => members.revoke(request),
      unrevokeMember: (request) => members.unrevoke(request),
      rotateKey: (request) => rotateAnchor(config, anchors, request),
    };
  }

  async start(): Promise<void> {
    const { config, ports, anchors } = this;
    await this.#revocations.load();
    if (anchors.isNewSigner) await this.#revocations.resign();
    const certificate = await OwnCertificate.issue(this.#authority, config.certificateTtl, ports, () =>
      this.#running?.server.renewed(),
    );
    const server = await ports.network.serve({
      listen: config.listen,
      ca: () => anchors.bundle,
      identity: () => certificate.identity,
      control: (accepted) => this.#streams.accept(accepted),
      unary: {
        registerPeer: async (request, context) => {
          const response = await this.#enrolment.register(request, context);
          this.#changes.notify();
          return response;
        },
        renewMembership: (request, context) => {
          this.#mayCall(context);
          return this.#enrolment.renewByCall(request, context);
        },
        fetchAnchors: async () => ({ chain: anchors.chain }),
        requestExitRegion: ({ region }, context) => this.#exitRegion(region, context),
      },
    });
    this.#running = { server, certificate };
    certificate.start();
    this.#directory.start();
    anchors.start();
  }

  /** Others of its keys and CAs count, or are used, than before. */
  async anchored(kind: AnchorKind, chain: readonly Signed[]): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    if (kind === 'ca') await running.certificate.renew();
    running.server.renewed();
    for (const { id } of this.#streams.byRole('supernode')) this.#tell(id, { kind: 'anchors', chain });
    if (this.anchors.isNewSigner) await this.#revocations.resign();
    this.#changes.notify();
  }

  erase(): void {
    this.#erasing.soon();
  }

  health(): { readonly ok: boolean; readonly detail: string } {
    const connected = this.#streams.count('supernode');
    return this.#running === undefined
      ? { ok: false, detail: 'not serving' }
      : { ok: true, detail: `${connected} supernode${connected === 1 ? '' : 's'} connected` };
  }

  /** The store stays open: it belongs to whoever opened it. */
  async stop(): Promise<readonly string[]> {
    const running = this.#running;
    this.#running = undefined;
    running?.certificate.stop();
    await this.anchors.stop();
    this.#erasing.stop();
    await this.#streams.close(new VpndError('closed', 'base is stopping', { retryable: true }));
    await this.#directory.stop();
    await running?.server.close();
    return [];
  }

  /** All that a supernode is told is durable before it is told. */
  async #welcome(peer: ConnectedPeer): Promise<Pick<AuthResponse, 'supernodes' | 'addressPlan'>> {
    await this.#memberAs(peer.id, peer.region);
    const info = publishedAs(peer);
    const wanted = this.#blocks.needed(info.load.sessionCapacity || peer.capabilities.sessionCapacity);
    const { directory } = this.ports.store;
    const leased = await directory.leaseBlocks(peer.id, wanted, this.#blocks.count, this.ports.clock.now());
    if (leased.length < wanted) {
      this.#shortOfBlocks.add(peer.id);
      this.ports.log.warn('the address pools are used up', { peer_id: peer.id, count: leased.length });
    } else this.#shortOfBlocks.delete(peer.id);
    this.#directory.saw(info);
    return { supernodes: this.#directory.list(peer.region), addressPlan: this.#blocks.plan(leased) };
  }

  /** What base publishes of a supernode has changed, by its own word. Durable before it is told to others. */
  async #published(peer: ConnectedPeer, told: SupernodeInfo): Promise<void> {
    if (!this.#newsLimit.allow(peer.id))
      throw new VpndError('rate-limited', 'this supernode changes too often what is published of it', {
        retryable: true,
      });
    if (told.id !== peer.id || told.region !== peer.region)
      throw new VpndError('bad-message', 'a supernode describes itself with its own id and region');
    await this.#memberAs(peer.id, peer.region);
    // A newer stream of the same supernode has said something newer.
    if (this.#streams.peer(peer.id) !== peer) return;
    this.#directory.saw(told);
    this.#directory.changed(ANNOUNCE_NEWS_AFTER);
    this.#changes.notify();
  }

  /** A membership is signed for weeks; what base knows today counts. */
  async #memberAs(id: PeerId, region: Region): Promise<void> {
    const member = await this.#enrolment.member(id);
    if (!member.roles.includes('supernode'))
      throw new VpndError('wrong-role', `this node is a member as ${member.roles.join(', ')}, not as supernode`);
    if (member.region !== region)
      throw new VpndError('wrong-region', `this node is now a member in region ${member.region}; renew its membership`);
  }

  async #info(peer: ConnectedPeer, question: InfoQuestion): Promise<InfoAnswer> {
    switch (question.kind) {
      case 'renewal':
        return { kind: 'renewal', result: await this.#enrolment.renewOnStream(question.renewal, peer.id) };
      case 'list-exits':
        throw new VpndError('not-supported', 'base knows no exits; supernodes do');
      case 'rekey':
        throw new VpndError('not-supported', 'base knows no sessions; supernodes do');
    }
  }

  /** Supernodes only, by certificate. */
  async #exitRegion(region: Region | undefined, { certified }: UnaryContext): Promise<RequestExitRegionResponse> {
    if (certified === undefined)
      throw new VpndError('unauthenticated', 'only supernodes ask for exit regions, with their certificate');
    const member = await this.#enrolment.member(certified);
    if (!member.roles.includes('supernode')) throw new VpndError('forbidden', 'only supernodes ask for exit regions');
    const supernodes = this.#directory.list(region ?? member.region);
    return {
      supernodes: region === undefined ? supernodes : supernodes.filter((info) => info.region === region),
      regions: this.#directory.regions(),
    };
  }

  #shutOut(peers: readonly Revocation[]): void {
    for (const { peer, kind } of peers) {
      if (kind === 'supernode') this.#unpublish(peer);
      this.#streams.disconnect(peer, shutOut(peer));
    }
  }

  #unpublish(supernode: PeerId): void {
    try {
      this.#directory.forget(supernode);
    } catch (err) {
      // A restart finds it shut out, and does not publish it.
      this.ports.log.warn('a banned supernode stays on record', { peer_id: supernode, err });
    }
  }

  /** What a supernode says about lists of revocations: rarely anything, so it is not to say it often. */
  #ofRevocations(from: PeerId, news: Extract<News, { kind: 'revocations' | 'revocations-wanted' }>): void {
    if (!this.#listLimit.allow(from)) return;
    if (news.kind === 'revocations-wanted') {
      for (const part of this.#revocations.whole()) this.#tell(from, part);
      return;
    }
    this.#revocations.take(from, news.change).then(
      (answers) => {
        for (const answer of answers) this.#tell(from, answer);
      },
      (err: unknown) => this.ports.log.error('a list of revocations was not taken back', { peer_id: from, err }),
    );
  }

  #tell(supernode: PeerId, news: News): boolean {
    return this.#streams.send(supernode, { kind: 'event', news }) === 'sent';
  }

  #broadcast(news: News): number {
    const message = { kind: 'event', news } as const;
    const told = this.#streams.byRole('supernode').filter(({ id }) => this.#streams.send(id, message) === 'sent');
    return told.filter(({ id }) => this.#revocations.refusal(id) === undefined).length;
  }

  /** A certificate outlives the ban of its supernode by a day; base does not look at it any more. */
  #mayCall({ certified }: UnaryContext): void {
    const refusal = certified === undefined ? undefined : this.#revocations.refusal(certified);
    if (refusal !== undefined) throw refusal;
  }

  #streamsChanged(): void {
    this.#directory.changed();
    this.#changes.notify();
  }

  /** Each supernode gets the list in the order that is best for its region. */
  #announce(): void {
    const inRegions = new Map<Region, PeerId[]>();
    for (const { id, region } of this.#streams.byRole('supernode')) {
      const here = inRegions.get(region) ?? [];
      inRegions.set(region, here);
      here.push(id);
    }
    for (const [region, supernodes] of inRegions) {
      const news = { kind: 'directory', supernodes: this.#directory.list(region) } as const;
      // One message for all of a region, one after the other: it is encoded once.
      const message = { kind: 'event', news } as const;
      for (const id of supernodes) this.#streams.send(id, message);
    }
  }

  #status() {
    const { config, keys, ports } = this;
    const running = this.#running;
    if (running === undefined) throw new VpndError('closed', 'base is stopping');
    return baseStatus({
      config,
      keys,
      anchors: this.anchors,
      ports,
      startedAt: this.#startedAt,
      address: running.server.address,
      connected: this.#streams.byRole('supernode'),
      regions: this.#directory.regions(),
      shortOfBlocks: this.#shortOfBlocks.size,
      revocations: this.#revocations,
    });
  }
}

/** What a supernode says of itself, with its id and region as base signed them. */
function publishedAs(peer: ConnectedPeer): SupernodeInfo {
  if (peer.supernode === undefined) throw new VpndError('bad-message', 'a supernode must say where it can be reached');
  return { ...peer.supernode, id: peer.id, region: peer.region };
}
