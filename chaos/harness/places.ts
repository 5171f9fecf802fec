import type { Place } from './scenario.js';

/**
 * How long a session lives with nobody renewing it. Short, so that what a lease has to clear is seen to be cleared; long
 * enough that no scenario outlives one with a supernode away by chance.
 */
export const LEASE_SECONDS = 60;
const SUPERNODE_ARGS = ['--lease', `${LEASE_SECONDS}s`];

/** A client in one region with two supernodes of which it uses both, two exits abroad. */
export const COMMON: Place = {
  supernodeArgs: SUPERNODE_ARGS,
  supernodes: [
    { name: 'a', region: 'eu' },
    { name: 'd', region: 'eu' },
    { name: 'b', region: 'us' },
  ],
  exits: [
    { name: 'x1', region: 'us' },
    { name: 'x2', region: 'us' },
  ],
  clients: [{ name: 'c1', region: 'eu' }],
};

/** Exits under two supernodes, so that there is somewhere to go when one of these dies. */
export const WIDE: Place = {
  ...COMMON,
  supernodes: [
    { name: 'a', region: 'eu' },
    { name: 'b', region: 'us' },
    { name: 'e', region: 'as' },
  ],
  exits: [
    { name: 'x1', region: 'us' },
    { name: 'x2', region: 'as' },
  ],
};

/** The same for a machine on which everything takes ten times as long: fewer daemons, and a lease that outlives pauses. */
export const SMALL: Place = {
  ...COMMON,
  supernodeArgs: ['--lease', '300s'],
  supernodes: [
    { name: 'a', region: 'eu' },
    { name: 'b', region: 'us' },
  ],
};

/** Clients besides c1, in homes of their own or together. */
export const CROWD: Place = {
  ...WIDE,
  clientArgs: ['--standby', 'off'],
  clients: [
    { name: 'c1', region: 'eu' },
    { name: 'c2', region: 'eu' },
    { name: 'c3', region: 'eu', with: 'c2' },
    { name: 'c4', region: 'eu', with: 'c2' },
    { name: 'c5', region: 'us' },
    { name: 'c6', region: 'us', with: 'c5' },
  ],
};
