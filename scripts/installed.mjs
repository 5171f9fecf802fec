// Exits with 0 when node_modules is what package-lock.json says, and the compiled package loads in this Node.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const packagesOf = (file) => JSON.parse(readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')).packages;

function upToDate() {
  const wanted = packagesOf('package-lock.json');
  const present = packagesOf('node_modules/.package-lock.json');
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    // Optional packages are those for other platforms.
    if (path !== '' && present[path]?.version !== version && !(optional && !present[path])) return false;
  }
  const Database = createRequire(import.meta.url)('better-sqlite3');
  new Database(':memory:').close();
  return true;
}

try {
  process.exitCode = upToDate() ? 0 : 1;
} catch {
  process.exitCode = 1;
}
