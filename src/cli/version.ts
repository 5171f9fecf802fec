import { readFileSync } from 'node:fs';

/** The version in vpnd's own package.json, the nearest one above the compiled file (wherever that was written). */
export function softwareVersion(): string {
  for (let dir = new URL('.', import.meta.url); ; dir = new URL('..', dir)) {
    try {
      const found = JSON.parse(readFileSync(new URL('package.json', dir), 'utf8')) as {
        name?: unknown;
        version?: unknown;
      };
      if (found.name === 'vpnd' && typeof found.version === 'string') return found.version;
    } catch {
      // Not here: one folder up.
    }
    if (dir.pathname === '/') return '0.0.0';
  }
}
