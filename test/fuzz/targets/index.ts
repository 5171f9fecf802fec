import type { Target } from '../engine/target.js';

interface Listed {
  /** Of a run's inputs, against the others'; as the target itself says. */
  readonly share: number;
  /** Microseconds an input takes, about: the dear ones begin first. */
  readonly cost: number;
  readonly load: () => Promise<Target>;
}

/** Everything that takes what others send. A target's modules are loaded when it is, so that only they are counted. */
export const TARGETS: Readonly<Record<string, Listed>> = {
  control: { share: 20, cost: 90, load: async () => (await import('./wire.js')).control },
  calls: { share: 12, cost: 60, load: async () => (await import('./wire.js')).calls },
  refusal: { share: 4, cost: 40, load: async () => (await import('./wire.js')).refusal },
  'join-token': { share: 3, cost: 60, load: async () => (await import('./identity.js')).joinToken },
  'token-body': { share: 4, cost: 60, load: async () => (await import('./identity.js')).tokenBody },
  membership: { share: 3, cost: 300, load: async () => (await import('./identity.js')).membership },
  offer: { share: 3, cost: 300, load: async () => (await import('./identity.js')).offer },
  anchors: { share: 2, cost: 300, load: async () => (await import('./identity.js')).anchors },
  'revocation-head': { share: 2, cost: 300, load: async () => (await import('./identity.js')).revocationHead },
  forged: { share: 3, cost: 200, load: async () => (await import('./identity.js')).forged },
  'revocation-list': { share: 2, cost: 60, load: async () => (await import('./identity.js')).revocationList },
  'audit-export': { share: 4, cost: 300, load: async () => (await import('./audit.js')).auditExport },
  config: { share: 8, cost: 200, load: async () => (await import('./config.js')).config },
  option: { share: 7, cost: 40, load: async () => (await import('./config.js')).option },
  word: { share: 8, cost: 40, load: async () => (await import('./config.js')).word },
  uapi: { share: 5, cost: 60, load: async () => (await import('./kernel.js')).uapi },
  'wg-dump': { share: 4, cost: 40, load: async () => (await import('./kernel.js')).wgDump },
  'nft-json': { share: 4, cost: 200, load: async () => (await import('./kernel.js')).nftJson },
  'nft-text': { share: 2, cost: 60, load: async () => (await import('./kernel.js')).nftText },
  'ip-json': { share: 4, cost: 200, load: async () => (await import('./kernel.js')).ipJson },
  'kernel-text': { share: 4, cost: 60, load: async () => (await import('./kernel.js')).kernelText },
  'machine-text': { share: 3, cost: 100, load: async () => (await import('./machine.js')).machineText },
  'lockdown-file': { share: 2, cost: 150, load: async () => (await import('./machine.js')).lockdownFile },
  'resolv-conf': { share: 4, cost: 150, load: async () => (await import('./names.js')).resolvConf },
  'dns-request': { share: 3, cost: 100, load: async () => (await import('./names.js')).dnsRequest },
  'login-page': { share: 0.5, cost: 3_000, load: async () => (await import('./names.js')).loginPage },
  certificate: { share: 1, cost: 500, load: async () => (await import('./certificates.js')).certificate },
  'client-certificate': {
    share: 2,
    cost: 150,
    load: async () => (await import('./certificates.js')).clientCertificate,
  },
  'certificate-request': {
    share: 0.5,
    cost: 2_000,
    load: async () => (await import('./certificates.js')).certificateRequest,
  },
  probe: { share: 6, cost: 200, load: async () => (await import('./probe.js')).probe },
  carriage: { share: 2, cost: 60, load: async () => (await import('./probe.js')).carriage },
  record: { share: 4, cost: 100, load: async () => (await import('./store.js')).record },
  books: { share: 4, cost: 150, load: async () => (await import('./books.js')).books },
  overlay: { share: 1, cost: 10_000, load: async () => (await import('./overlay.js')).overlay },
  'local-api': { share: 2, cost: 800, load: async () => (await import('./local-api.js')).localApi },
  http: { share: 0.4, cost: 3_000, load: async () => (await import('./local-api.js')).http },
  streams: { share: 3, cost: 1_500, load: async () => (await import('./streams.js')).streams },
  'state-files': { share: 0.3, cost: 8_000, load: async () => (await import('./store.js')).stateFiles },
};

/** Throws RangeError where there is none of that name. */
export async function openTargetNamed(name: string): Promise<Target> {
  const listed = Object.hasOwn(TARGETS, name) ? TARGETS[name] : undefined;
  if (listed === undefined) throw new RangeError(`no target is called ${name}`);
  return listed.load();
}

/** How many of `count` inputs each of these gets. */
export function shares(names: readonly string[], count: number): ReadonlyMap<string, number> {
  const sum = names.reduce((total, name) => total + (TARGETS[name]?.share ?? 0), 0);
  const each = names.map((name) => Math.floor((count * (TARGETS[name]?.share ?? 0)) / sum));
  const rest = count - each.reduce((total, one) => total + one, 0);
  return new Map(names.map((name, i) => [name, (each[i] ?? 0) + (i === 0 ? rest : 0)]));
}
