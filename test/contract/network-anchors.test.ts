import t from 'tap';
import type { ServeOptions, TlsIdentity } from '../../src/core/ports/network.js';
import { certificateTools } from '../../src/identity/ca.js';
import { openSodium } from '../../src/identity/sodium.js';
import { statements as openStatements } from '../../src/identity/statements.js';
import type { HostPort, Port } from '../../src/model/address.js';
import { VpndError } from '../../src/model/errors.js';
import { keyOf } from '../../src/model/ids.js';
import type { Signed } from '../../src/model/membership.js';
import { instantOf, minutes, ms } from '../../src/model/time.js';
import { askForAnchors, bundleOf, trustIn } from '../../src/roles/common/trust-anchors.js';
import { grpcNetwork } from '../../src/transport/grpc-network.js';
import { testLog } from '../support/test-log.js';

const { crypto, random } = await openSodium();
const tools = certificateTools();
const statements = openStatements(crypto);
const BASE = { kind: 'base' } as const;
const PATIENCE = { timeout: ms(5_000) };
const now = () => instantOf(Date.now());

/** Two CAs, a certificate of base and of a supernode by each, and real TLS between them. */
async function scene() {
  const supernode = crypto.newIdentity().identity;
  const [old, young] = [await tools.newAuthority(now()), await tools.newAuthority(now())];
  const issue = async (by: typeof old, subject: Parameters<typeof old.authority.issue>[1]): Promise<TlsIdentity> => {
    const { csr, privateKey } = await tools.newRequest();
    return { certificate: await by.authority.issue(csr, subject, now(), minutes(10)), privateKey };
  };
  const network = grpcNetwork({ log: testLog(), random });
  return {
    old,
    young,
    network,
    base: { old: await issue(old, BASE), young: await issue(young, BASE) },
    node: {
      id: supernode.id,
      old: await issue(old, { kind: 'supernode', id: supernode.id }),
      young: await issue(young, { kind: 'supernode', id: supernode.id }),
    },
    serve: (options: Pick<ServeOptions, 'ca' | 'identity'>, chain: readonly Signed[] = []) =>
      network.serve({
        ...options,
        listen: { host: '127.0.0.1', port: 0 as Port },
        control: () => {},
        unary: {
          fetchAnchors: async () => ({ chain }),
          requestExitRegion: async (_, { certified }) => {
            if (certified === undefined) throw new VpndError('unauthenticated', 'no certificate that counts');
            return { supernodes: [], regions: [] };
          },
        },
      }),
  };
}

const code = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'ok',
    (thrown: unknown) => (thrown instanceof VpndError ? thrown.code : String(thrown)),
  );

t.test('while two CAs count, certificates of both do, on either side', async (t) => {
  const { old, young, network, base, node, serve } = await scene();
  t.teardown(() => network.close());
  let identity = base.old;
  let authorities = [old, young];
  const bundle = () => bundleOf(authorities.map((one) => one.authority.certificate));
  const server = await serve({ ca: bundle, identity: () => identity });
  t.teardown(() => server.close());
  const address: HostPort = { host: '127.0.0.1', port: server.address.port };
  const ask = (ca: string, own: TlsIdentity) =>
    code(
      network.call(
        { address, expect: BASE, ca, identity: () => own },
        'requestExitRegion',
        { region: undefined },
        PATIENCE,
      ),
    );
  const both = bundle();
  t.equal(await ask(both, node.old), 'ok', 'all by the one before');
  t.equal(await ask(both, node.young), 'ok', 'a client by the new one');
  t.equal(await ask(young.authority.certificate, node.young), 'wrong-ca', 'who goes by the new one alone');

  identity = base.young;
  server.renewed();
  t.equal(await ask(both, node.old), 'ok', 'a server by the new one');
  t.equal(await ask(old.authority.certificate, node.old), 'wrong-ca', 'who has missed it');

  authorities = [young];
  server.renewed();
  t.equal(await ask(young.authority.certificate, node.young), 'ok');
  t.equal(await ask(young.authority.certificate, node.old), 'unauthenticated', 'the one before counts no more');
});

t.test('who has missed it asks base, and believes what a key of base has signed, and nobody else', async (t) => {
  const { old, young, network, base, serve } = await scene();
  t.teardown(() => network.close());
  const [signer, stranger] = [crypto.newIdentity().identity, crypto.newIdentity().identity];
  const anchors = {
    serial: 3,
    issuedAt: now(),
    baseKeys: [keyOf(signer.id)],
    authorities: [young.authority.certificate],
  };
  const known = trustIn(keyOf(signer.id), [old.authority.certificate]);
  const asked = async (chain: readonly Signed[]) => {
    const server = await serve({ ca: young.authority.certificate, identity: () => base.young }, chain);
    const address: HostPort = { host: '127.0.0.1', port: server.address.port };
    try {
      return await askForAnchors(address, known, { network, statements }).catch((thrown: VpndError) => thrown);
    } finally {
      await server.close();
    }
  };
  t.match(await asked([statements.signAnchors(signer, anchors)]), {
    trust: { serial: 3, authorities: anchors.authorities },
  });
  t.match(await asked([]), { code: 'wrong-ca' }, 'nothing signed');
  t.match(await asked([statements.signAnchors(stranger, anchors)]), { code: 'wrong-ca' }, 'signed by a stranger');
  const other = { ...anchors, authorities: [old.authority.certificate] };
  t.match(await asked([statements.signAnchors(signer, other)]), { code: 'wrong-ca' }, 'of another CA than it shows');
  const first = statements.signAnchors(signer, { ...anchors, baseKeys: [keyOf(stranger.id), keyOf(signer.id)] });
  const next = statements.signAnchors(stranger, { ...anchors, serial: 4, baseKeys: [keyOf(stranger.id)] });
  t.match(await asked([first, next]), { trust: { serial: 4, baseKeys: [keyOf(stranger.id)] } }, 'from key to key');
  t.match(await asked([next]), { code: 'wrong-ca' }, 'with a link missing');
  const flipped = { ...first, body: first.body.map((byte, i) => (i === 8 ? byte ^ 1 : byte)) };
  t.match(await asked([flipped]), { code: 'wrong-ca' }, 'with a bit flipped');
});
