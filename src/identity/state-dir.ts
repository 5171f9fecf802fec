import { createPrivateKey, X509Certificate } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import type { Identity } from '../core/ports/crypto.js';
import type { TlsIdentity } from '../core/ports/network.js';
import { type Bytes, equalConstantTime, fromBase64, toBase64, utf8 } from '../model/bytes.js';
import { VpndError } from '../model/errors.js';
import { parseWireGuardPrivateKey, type WireGuardKeyPair, wireGuardKeyBytes } from '../model/keys.js';
import type { SodiumCrypto } from './sodium.js';
import { eraseLeftovers, fileError, readPrivateFile, replacePrivateFile, writePrivateFile } from './state-files.js';
import { LOCK_FILES, lockState } from './state-lock.js';

/** A node's state directory: its keys, each in a 0600 file of its own. The SQLite file beside them is the store's. */
export interface StateDir {
  readonly path: string;
  /** Whether nothing was in it when it was opened: whatever it holds now was made since. */
  readonly fresh: boolean;
  /** What was found too open and closed, for the log: one line each. Grows as files are read. */
  readonly warnings: readonly string[];
  /** `identity.key`, made at the first call. */
  identity(): Identity;
  /** `wireguard.key`, made at the first call. */
  wireGuardKeys(): WireGuardKeyPair;
  /** Puts another key in its place; of the one before nothing stays in the file. */
  keepWireGuardKeys(pair: WireGuardKeyPair): void;
  /** `tls.key` and `tls.crt`; undefined when there is none, or a crash between the two left halves that do not fit. */
  tls(): TlsIdentity | undefined;
  saveTls(identity: TlsIdentity): void;
  /** base's `ca.key` and `ca.crt`; undefined when there is none yet. */
  ca(): TlsIdentity | undefined;
  saveCa(identity: TlsIdentity): void;
  /** Puts another CA in its place; of the key before nothing stays in the file. */
  keepCa(identity: TlsIdentity): void;
  /** Gives the lock back. */
  close(): void;
  /**
   * Instead of `close`, for a first start that came to nothing: removes the keys it made, these files besides, the lock,
   * and the directories it made. Does no more than `close` where something was there before.
   */
  discard(files: readonly string[]): void;
}

export interface StateDirOptions {
  /** False for commands that only look. Default true: a second daemon is refused with `state-locked`. */
  readonly lock?: boolean;
}

/**
 * Opens a state directory, making it (0700) when it is not there. Throws VpndError: `state-unreadable`, `disk-full`,
 * `state-locked`. A key file that does not parse is named and left as it is: replacing an identity is for people.
 */
export function openStateDir(dir: string, crypto: SodiumCrypto, options: StateDirOptions = {}): StateDir {
  const path = resolve(dir);
  const warnings: string[] = [];
  const warn = (text: string) => {
    warnings.push(text);
  };
  const made = openDirectory(path, warn);
  const lock = options.lock === false ? undefined : lockOr(path, () => removeDirectories(path, made));
  const fresh = lock !== undefined && readdirSync(path).every((name) => LOCK_FILES.includes(name));
  const at = (name: string) => join(path, name);

  return {
    path,
    fresh,
    warnings,

    identity() {
      const seed = readKey(at('identity.key'), warn);
      if (seed !== undefined) return crypto.identityFromSeed(seed);
      const fresh = crypto.newIdentity();
      writePrivateFile(at('identity.key'), `${toBase64(fresh.seed)}\n`);
      return fresh.identity;
    },

    wireGuardKeys() {
      const stored = readKey(at('wireguard.key'), warn);
      if (stored === undefined) {
        const fresh = crypto.wireGuardKeyPair();
        writePrivateFile(at('wireguard.key'), `${fresh.privateKey}\n`);
        return fresh;
      }
      const privateKey = parseWireGuardPrivateKey(toBase64(stored));
      if (!privateKey.ok) throw unparsable(at('wireguard.key'), 'a WireGuard private key');
      return crypto.wireGuardFromPrivate(privateKey.value);
    },

    keepWireGuardKeys({ privateKey }) {
      const path = at('wireguard.key');
      const stored = readKey(path, warn);
      if (stored !== undefined && equalConstantTime(stored, wireGuardKeyBytes(privateKey))) eraseLeftovers(path);
      else replacePrivateFile(path, `${privateKey}\n`);
    },

    tls() {
      const pair = readPair(at('tls.key'), at('tls.crt'), warn);
      return pair.kind === 'whole' && pair.fits ? pair.identity : undefined;
    },
    saveTls: (identity) => savePair(at('tls.key'), at('tls.crt'), identity),

    ca() {
      const pair = readPair(at('ca.key'), at('ca.crt'), warn);
      // A key without its certificate is a first start that was cut short: nothing was ever signed with it.
      if (pair.kind !== 'whole') {
        if (pair.kind === 'certificate-only')
          throw new VpndError(
            'state-unreadable',
            `${at('ca.key')} is missing beside ca.crt; restore it from a backup (without it every node must enrol anew)`,
          );
        return undefined;
      }
      if (!pair.fits)
        throw new VpndError(
          'state-unreadable',
          `${at('ca.key')} does not belong to ca.crt; restore both from one backup; they were left untouched`,
        );
      return pair.identity;
    },
    saveCa: (identity) => savePair(at('ca.key'), at('ca.crt'), identity),
    keepCa({ privateKey, certificate }) {
      // The database knows which CA it is: whatever a crash leaves here is put right at the next start.
      const kept = readPrivateFile(at('ca.key'), warn);
      if (kept !== undefined && equalConstantTime(utf8(kept), utf8(privateKey))) eraseLeftovers(at('ca.key'));
      else replacePrivateFile(at('ca.key'), privateKey);
      writePrivateFile(at('ca.crt'), certificate);
    },

    close: () => lock?.release(),

    discard(files) {
      // The lock goes last: whoever waits for the directory must not find half of it.
      if (fresh) for (const name of [...KEY_FILES, ...files, ...LOCK_FILES]) rmSync(at(name), { force: true });
      if (fresh) removeDirectories(path, made);
      lock?.release();
    },
  };
}

const KEY_FILES = ['identity.key', 'wireguard.key', 'tls.key', 'tls.crt', 'ca.key', 'ca.crt'];

function lockOr(path: string, undo: () => void): ReturnType<typeof lockState> {
  try {
    return lockState(path);
  } catch (thrown) {
    undo();
    throw thrown;
  }
}

/** Removes a directory and those above it up to `top`, as far as they are empty; nothing where `top` is undefined. */
function removeDirectories(path: string, top: string | undefined): void {
  if (top === undefined) return;
  try {
    for (let at = path; ; at = dirname(at)) {
      rmdirSync(at);
      if (at === top) return;
    }
  } catch {
    // Somebody else put something there.
  }
}

/** Answers with the first directory that had to be made. */
function openDirectory(path: string, warn: (text: string) => void): string | undefined {
  try {
    const made = mkdirSync(path, { recursive: true, mode: 0o700 });
    if (made !== undefined) return made;
    const stat = statSync(path);
    if (!stat.isDirectory()) throw new VpndError('state-unreadable', `${path} is not a directory`);
    if ((stat.mode & 0o077) === 0) return undefined;
    // Only a directory that is vpnd's alone is closed: nobody wants a mistyped /tmp or /home shut.
    const ours = existsSync(join(path, 'identity.key')) || readdirSync(path).length === 0;
    if (ours && stat.uid === process.getuid?.()) {
      chmodSync(path, 0o700);
      warn(`${path} was open to other users; its mode is now 0700`);
    } else warn(`${path} is open to other users; a state directory should be vpnd's alone, mode 0700`);
    return undefined;
  } catch (thrown) {
    throw fileError(path, thrown);
  }
}

/** 32 bytes in base64 on one line, as `wg genkey` writes them. */
function readKey(path: string, warn: (text: string) => void): Bytes | undefined {
  const text = readPrivateFile(path, warn);
  if (text === undefined) return undefined;
  const bytes = fromBase64(text.trim());
  // Zeros are what a disk gives back that has lost a file, and a key that everybody has.
  if (bytes?.length !== 32 || bytes.every((byte) => byte === 0)) throw unparsable(path, 'a key (32 bytes in base64)');
  return bytes;
}

type Pair =
  | { readonly kind: 'absent' | 'key-only' | 'certificate-only' }
  | { readonly kind: 'whole'; readonly fits: boolean; readonly identity: TlsIdentity };

function readPair(keyPath: string, certificatePath: string, warn: (text: string) => void): Pair {
  const privateKey = readPrivateFile(keyPath, warn);
  const certificate = readPrivateFile(certificatePath, warn);
  if (privateKey === undefined && certificate === undefined) return { kind: 'absent' };
  if (certificate === undefined) return { kind: 'key-only' };
  if (privateKey === undefined) return { kind: 'certificate-only' };
  const key = attempt(() => createPrivateKey(privateKey));
  if (key === undefined) throw unparsable(keyPath, 'a private key in PEM');
  const leaf = attempt(() => new X509Certificate(certificate));
  if (leaf === undefined) throw unparsable(certificatePath, 'a certificate in PEM');
  return { kind: 'whole', fits: leaf.checkPrivateKey(key), identity: { certificate, privateKey } };
}

function savePair(keyPath: string, certificatePath: string, identity: TlsIdentity): void {
  writePrivateFile(keyPath, identity.privateKey);
  writePrivateFile(certificatePath, identity.certificate);
}

function attempt<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}

const unparsable = (path: string, what: string): VpndError =>
  new VpndError(
    'state-unreadable',
    `${path} does not hold ${what}; restore it from a backup or move it away; it was left untouched`,
    { details: { path } },
  );
