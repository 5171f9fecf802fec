import type { Database } from 'better-sqlite3';
import type { FactStore } from '../../core/ports/store.js';
import { decodeJson, encodeJson } from '../json-codec.js';

/** Runs an access to the database with its errors translated. */
export type Guard = <T>(action: () => T) => T;

export function factStore(db: Database, guard: Guard): FactStore {
  const get = db.prepare<[string], { value: string }>('SELECT value FROM fact WHERE name = ?');
  const put = db.prepare<[string, string]>(
    'INSERT INTO fact (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value',
  );
  const remove = db.prepare<[string]>('DELETE FROM fact WHERE name = ?');
  const names = db.prepare<[string, string], { name: string }>(
    'SELECT name FROM fact WHERE substr(name, 1, length(?)) = ? ORDER BY name',
  );
  return {
    get: <T>(name: string) =>
      guard(() => {
        const row = get.get(name);
        return row === undefined ? undefined : (decodeJson(row.value) as T);
      }),
    put: (name, value) => {
      const text = encodeJson(value);
      guard(() => put.run(name, text));
    },
    remove: (name) => {
      guard(() => remove.run(name));
    },
    names: (prefix) => guard(() => names.all(prefix, prefix).map(({ name }) => name)),
  };
}
