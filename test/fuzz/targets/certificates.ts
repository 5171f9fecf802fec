import { X509Certificate } from 'node:crypto';
import { certificateTools } from '../../../src/identity/ca.js';
import { parsePeerId } from '../../../src/model/ids.js';
import { hours, instantOf } from '../../../src/model/time.js';
import { authoritiesOf, certificateOf, certifiedSupernode } from '../../../src/transport/grpc/certificates.js';
import { must, mustEqual, orRefused } from '../engine/oracle.js';
import { bytesOf, type Target, textOf } from '../engine/target.js';

/** Made once by `certificateTools`: a CA that is thrown away, the certificate it gave to a supernode, and what asked for that. */
const CA = [
  'MIIBdzCCAR2gAwIBAgIQBjb/69dQdGNoMFDRcu6Y0jAKBggqhkjOPQQDAjAaMRgwFgYDVQQDEw92cG5kIG92ZXJsYXkgQ0EwHhcN',
  'MjUxMjMxMDAwMDAwWhcNMzUxMjMwMDAwMDAwWjAaMRgwFgYDVQQDEw92cG5kIG92ZXJsYXkgQ0EwWTATBgcqhkjOPQIBBggqhkjO',
  'PQMBBwNCAATsVp6xpPrbeFmhhmHaO1oTYKENK0LOSTgE5nhWoCfLwvoSXIrEoYQ7QewgQ4I75dWS1GaJhvj/zrauA5+k+1XUo0Uw',
  'QzASBgNVHRMBAf8ECDAGAQH/AgEAMA4GA1UdDwEB/wQEAwIBBjAdBgNVHQ4EFgQUSujl38f34ELf+zZhogjCza7v4qwwCgYIKoZI',
  'zj0EAwIDSAAwRQIhAKtOa7GDbSn7vMELAKCi//DZmVWFh1n9O86WdnLs75+PAiBdwSWcL0xdT7+IoN5J9ljOGx5xkuitWfAnzf/c',
  'ElovpQ==',
].join('');
const LEAF = [
  'MIICFTCCAbygAwIBAgIRAI5NI5E6rgIz0XRhZWs1TVEwCgYIKoZIzj0EAwIwGjEYMBYGA1UEAxMPdnBuZCBvdmVybGF5IENBMB4X',
  'DTI1MTIzMTAwMDAwMFoXDTM0MDMyMDAwMDAwMFowJDEiMCAGA1UEAxMZdnBuZCBzdXBlcm5vZGUgN3Vsc2lvYzJ1ZDBZMBMGByqG',
  'SM49AgEGCCqGSM49AwEHA0IABC+oy21R/l2CAavoaWI+YDO7l+6TfS+WtXo6o/wlNRsnMhtK0s5WI/uR+rMLM1e87NniNir26Fcg',
  'IferbSg6vhCjgdgwgdUwDAYDVR0TAQH/BAIwADAOBgNVHQ8BAf8EBAMCB4AwHQYDVR0lBBYwFAYIKwYBBQUHAwEGCCsGAQUFBwMC',
  'MFYGA1UdEQRPME2GRXZwbmQ6Ly9zdXBlcm5vZGUvN3Vsc2lvYzJ1ZGR2d3poM3BkZ3dhbDViM2dpNzMyN3hubWo0bGR3eGFsdm1x',
  'bnBqNnltYYIEdnBuZDAfBgNVHSMEGDAWgBRK6OXfx/fgQt/7NmGiCMLNru/irDAdBgNVHQ4EFgQUJRavh1WTetKXZncANT+n8pjW',
  'nbowCgYIKoZIzj0EAwIDRwAwRAIgDyAacMkYAMNTru5uKP2ZV80xR8JdBp8V5ddBwbjVqzECIFKsuP2Nw3dAgW153jZMaKFjwzM9',
  '0VaikLwHqYKIVUhY',
].join('');
const REQUEST = [
  'MIHJMHECAQAwDzENMAsGA1UEAxMEdnBuZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABC+oy21R/l2CAavoaWI+YDO7l+6TfS+W',
  'tXo6o/wlNRsnMhtK0s5WI/uR+rMLM1e87NniNir26FcgIferbSg6vhCgADAKBggqhkjOPQQDAgNIADBFAiEAoTxIiZLrKMOA8oTG',
  'BS9phYRaWfpUReZQ3rEFD/TXYcECICu3zwCIswrtNu2qDjJTZFA2DKpLTqo5G4P5G64uZ+uk',
].join('');
const SUPERNODE = '7ulsioc2uddvwzh3pdgwal5b3gi7327xnmj4ldwxalvmqnpj6yma';

const pem = (body: string): string =>
  `-----BEGIN CERTIFICATE-----\n${body.replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
const tools = certificateTools();
const NOW = instantOf(Date.UTC(2026, 0, 1));

/** Certificates as base's answers and statements bring them, and as state directories keep them: one or more in PEM. */
export const certificate: Target = {
  name: 'certificate',
  shape: 'text',
  words: ['-----BEGIN CERTIFICATE-----', '-----END CERTIFICATE-----', '-----BEGIN PRIVATE KEY-----', '\n', 'MII', '=='],
  mostBytes: 20_000,
  open: async () => ({
    make: (chance) => bytesOf(chance.of([pem(CA), pem(LEAF), pem(LEAF) + pem(CA), pem(CA) + pem(CA)])),
    run(input) {
      const text = textOf(input);
      const unreadable = ['state-unreadable'];
      orRefused(() => certificateOf(text), unreadable);
      const all = orRefused(() => authoritiesOf(text), unreadable);
      must(all === undefined || all.length > 0, 'a CA is read and there is none');
      orRefused(() => tools.validity(text), unreadable);
    },
  }),
};

/** What a caller shows as its certificate: whoever it is for, the CA has said so. */
export const clientCertificate: Target = {
  name: 'client-certificate',
  shape: 'bytes',
  words: ['vpnd://supernode/', 'vpnd://base', 'URI:', ', ', SUPERNODE, 'a'.repeat(52)],
  mostBytes: 8_000,
  open: async () => {
    const ca = certificateOf(pem(CA));
    const known = certifiedSupernode(Buffer.from(LEAF, 'base64'), [ca]);
    must(known?.peer === SUPERNODE, 'the certificate of the example is not taken');
    return {
      make: (chance) => Buffer.from(chance.of([LEAF, LEAF, CA]), 'base64'),
      run(input) {
        let certified: ReturnType<typeof certifiedSupernode>;
        try {
          certified = certifiedSupernode(input, [ca]);
        } catch (thrown) {
          // OpenSSL has read it before, where it comes from a connection.
          must(thrown instanceof Error && 'code' in thrown, 'a certificate throws', String(thrown));
          return;
        }
        if (certified !== undefined) mustEqual(certified, known, 'a certificate that no CA gave is taken');
      },
    };
  },
};

/** What somebody with a token sends to be certified: nothing of it is taken over but its key. */
export const certificateRequest: Target = {
  name: 'certificate-request',
  shape: 'bytes',
  words: ['vpnd', 'vpnd://base', 'CN=vpnd base'],
  mostBytes: 8_000,
  open: async () => {
    const { authority } = await tools.newAuthority(NOW);
    const id = parsePeerId(SUPERNODE);
    if (!id.ok) throw new Error(id.error);
    return {
      make: () => Buffer.from(REQUEST, 'base64'),
      async run(input) {
        let chain: string;
        try {
          chain = await authority.issue(input, { kind: 'supernode', id: id.value }, NOW, hours(24));
        } catch (thrown) {
          orRefused(() => {
            throw thrown;
          }, ['bad-message', 'bad-signature']);
          return;
        }
        const [leaf] = authoritiesOf(chain);
        must(leaf !== undefined && !leaf.ca, 'a CA has been made of a request');
        mustEqual(leaf.subjectAltName, `URI:vpnd://supernode/${SUPERNODE}, DNS:vpnd`, 'a request has named itself');
        mustEqual(Date.parse(leaf.validTo), NOW + hours(24), 'a request has said for how long');
        must(new X509Certificate(chain).checkIssued(certificateOf(authority.certificate)), 'another has issued it');
      },
    };
  },
};
