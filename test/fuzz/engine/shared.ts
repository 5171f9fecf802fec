/** Names a folder that the processes of one run share, so that each module is taken apart once. */
export const CACHE_VARIABLE = 'VPND_FUZZ_CACHE';

/** Counters are shared by places whose hashes meet: with some ten thousand places that costs next to nothing. */
export const PLACES = 1 << 17;
