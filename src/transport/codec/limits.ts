/**
 * How much of anything a message may hold. A peer that sends more is refused with `bad-message`, so no peer decides how
 * much memory its messages take; lists that are ranked best first are cut to these lengths before they are sent.
 */

/** Largest message on a stream or of a call, in bytes. */
export const MAX_MESSAGE_BYTES = 256 * 1024;

export const MAX_SUPERNODES = 256;
export const MAX_REGIONS = 256;
export const MAX_EXITS = 256;
/** Addresses one supernode is dialled on. */
export const MAX_ADDRESSES = 8;
/** One of each family. */
export const MAX_RELAY_IPS = 2;
export const MAX_VOUCHED_IPS = 8;
export const MAX_BLOCKS = 64;
/** Sessions a node names when it authenticates. */
export const MAX_SESSION_DIGESTS = 4096;
/** Supernodes on a path. */
export const MAX_VIA = 2;
export const MAX_REASONS = 16;
/** Exits or supernodes that a request keeps away from. */
export const MAX_AVOIDED = 16;
/** Sessions one supernode asks another to move at once. */
export const MAX_MOVED_SESSIONS = 1024;
/** WireGuard datagrams in one message of a stream. */
export const MAX_DATAGRAMS = 64;
/** A WireGuard datagram: a jumbo frame's, at most. */
export const MAX_DATAGRAM_BYTES = 9216;
export const MAX_DETAILS = 8;

/** UTF-16 units of free text for people: messages, reasons. */
export const MAX_TEXT = 500;
/** UTF-16 units of a label: pool, software, error code, key of a detail. */
export const MAX_LABEL = 64;
export const MAX_DETAIL_VALUE = 256;

/** A serialized Membership or Offer (an offer carries a KEM ciphertext of 1088 bytes). */
export const MAX_STATEMENT_BYTES = 4096;
/** A statement with base's keys and CAs, two of each at most, and how many of them base sends. */
export const MAX_ANCHORS_BYTES = 16 * 1024;
export const MAX_ANCHOR_CHAIN = 12;
/** PKCS#10 in DER. */
export const MAX_CSR_BYTES = 4096;
/** A certificate chain in PEM. */
export const MAX_PEM = 32 * 1024;
export const MIN_NONCE_BYTES = 16;
export const MAX_NONCE_BYTES = 64;
export const MIN_SECRET_BYTES = 16;
export const MAX_SECRET_BYTES = 64;

export const KEY_BYTES = 32;
export const HASH_BYTES = 32;
/** Ed25519. */
export const SIGNATURE_BYTES = 64;
export const PROBE_TOKEN_BYTES = 16;
export const CHALLENGE_BYTES = 32;
/** An ML-KEM-768 encapsulation key (FIPS 203). */
export const KEM_KEY_BYTES = 1184;
/** WireGuard's keepalive is a 16-bit number of seconds. */
export const MAX_KEEPALIVE = 65_535;
/** The last millisecond ECMAScript can name. */
export const MAX_INSTANT = 8.64e15;
