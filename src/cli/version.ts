import { readFileSync } from 'node:fs';

/** The version in package.json, which lies three folders above the compiled file. */
export function softwareVersion(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  const version = (JSON.parse(text) as { version?: unknown }).version;
  return typeof version === 'string' ? version : '0.0.0';
}
