import 'reflect-metadata';
import { createHash, createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import t from 'tap';
import { certificateTools, subjectUri } from '../../src/identity/ca.js';
import { openSodium } from '../../src/identity/sodium.js';
import { days, hours, instantOf, minutes, plus } from '../../src/model/time.js';

const { crypto } = await openSodium();
const tools = certificateTools();
const now = instantOf(1_800_000_000_000);
const { authority, identity: caIdentity } = await tools.newAuthority(now);
const supernode = { kind: 'supernode', id: crypto.newIdentity().identity.id } as const;
const halves = (pem: string) => pem.split(/(?<=-----END CERTIFICATE-----\n)/);

t.test('the CA can sign certificates and nothing else, for ten years', async (t) => {
  const ca = new X509Certificate(authority.certificate);
  t.ok(ca.ca);
  t.ok(ca.verify(ca.publicKey));
  t.ok(ca.checkPrivateKey(createPrivateKey(caIdentity.privateKey)));
  const spki = ca.publicKey.export({ type: 'spki', format: 'der' });
  t.strictSame(authority.keyHash, new Uint8Array(createHash('sha256').update(spki).digest()));
  const { notBefore, notAfter } = tools.validity(authority.certificate);
  t.ok(notBefore <= now - hours(1));
  t.equal(notAfter, plus(now, days(3650)));
  const parsed = new x509.X509Certificate(authority.certificate);
  t.equal(
    parsed.getExtension(x509.KeyUsagesExtension)?.usages,
    x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
  );
  t.equal(parsed.getExtension(x509.BasicConstraintsExtension)?.critical, true);
});

t.test('a certificate names its node, chains to the CA and is for both ends of TLS', async (t) => {
  const request = await tools.newRequest();
  for (const subject of [supernode, { kind: 'base' } as const]) {
    const [leafPem, caPem, ...rest] = halves(await authority.issue(request.csr, subject, now, hours(24)));
    t.same(rest, []);
    t.equal(caPem, authority.certificate);
    const leaf = new X509Certificate(leafPem ?? '');
    const ca = new X509Certificate(authority.certificate);
    t.ok(leaf.checkIssued(ca) && leaf.verify(ca.publicKey));
    t.notOk(leaf.ca);
    t.ok(leaf.checkPrivateKey(createPrivateKey(request.privateKey)));
    t.equal(leaf.subjectAltName, `URI:${subjectUri(subject)}, DNS:vpnd`);
    t.same(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    t.equal(tools.validity(leafPem ?? '').notAfter, plus(now, hours(24)));
  }
});

t.test(
  'a certificate lies back as long as it is valid for, at most a day, so that slow clocks get to hear of it',
  async (t) => {
    const { csr } = await tools.newRequest();
    const notBefore = async (validity: ReturnType<typeof hours>) =>
      now - tools.validity(await authority.issue(csr, supernode, now, validity)).notBefore;
    t.equal(await notBefore(hours(24)), hours(24));
    t.equal(await notBefore(minutes(1)), minutes(1));
    t.equal(await notBefore(days(30)), days(1));
  },
);

t.test('no certificate outlives its CA', async (t) => {
  const { csr } = await tools.newRequest();
  const late = plus(now, days(3649));
  const leaf = await authority.issue(csr, supernode, late, days(30));
  t.equal(tools.validity(leaf).notAfter, plus(now, days(3650)));
});

t.test('a request that is not signed by its own key, or for another kind of key, is refused', async (t) => {
  const { csr } = await tools.newRequest();
  const issue = (bytes: Uint8Array) => authority.issue(bytes, supernode, now, hours(24));
  for (const at of [csr.length - 1, csr.length - 20]) {
    const forged = csr.slice();
    forged[at] = (forged[at] ?? 0) ^ 1;
    await t.rejects(issue(forged), { code: 'bad-signature' });
  }
  await t.rejects(issue(new Uint8Array()), { code: 'bad-message' });
  await t.rejects(issue(csr.slice(0, 50)), { code: 'bad-message' });
  const algorithm = { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-256' };
  const keys = await globalThis.crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const other = await x509.Pkcs10CertificateRequestGenerator.create({
    name: 'CN=x',
    keys,
    signingAlgorithm: algorithm,
  });
  await t.rejects(issue(new Uint8Array(other.rawData)), { code: 'bad-message' });
});

t.test('a stored CA is the same CA', async (t) => {
  const again = await tools.openAuthority(caIdentity);
  t.equal(again.certificate, authority.certificate);
  t.strictSame(again.keyHash, authority.keyHash);
  const { csr } = await tools.newRequest();
  const [leaf] = halves(await again.issue(csr, supernode, now, hours(24)));
  t.ok(new X509Certificate(leaf ?? '').verify(new X509Certificate(authority.certificate).publicKey));
});

t.test('a CA file that holds something else is said so', async (t) => {
  await t.rejects(tools.openAuthority({ ...caIdentity, certificate: 'nothing' }), { code: 'state-unreadable' });
  const rsa = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  await t.rejects(tools.openAuthority({ ...caIdentity, privateKey: rsa }), { code: 'state-unreadable' });
});
