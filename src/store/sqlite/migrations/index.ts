import type { Migration } from '../migrate.js';
import { ledger } from './0001-ledger.js';
import { directory } from './0002-directory.js';
import { egressTokens } from './0003-egress-tokens.js';
import { revocations } from './0004-revocations.js';
import { audit } from './0005-audit.js';
import { census } from './0006-census.js';

/** In order, each the next number; a released one never changes. */
export const migrations: readonly Migration[] = [ledger, directory, egressTokens, revocations, audit, census];
