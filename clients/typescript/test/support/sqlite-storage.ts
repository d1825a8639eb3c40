// A storage on SQLite, which shows what the kit needs of one, for example in React Native: five tables with a JSON
// column, and indexes on what is asked for.
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';

import type { CopyChanges, Entry, EventRange, Installation, Json, Refusal, Row, Storage, WriteTransaction } from '../../src/storage/index.js';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS row (id TEXT PRIMARY KEY, type_id TEXT, timestamp TEXT, name TEXT, deleted_at INTEGER, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS row_by_time ON row (timestamp, id) WHERE timestamp IS NOT NULL;
  CREATE INDEX IF NOT EXISTS row_by_type ON row (type_id, timestamp, id) WHERE timestamp IS NOT NULL;
  CREATE INDEX IF NOT EXISTS row_by_name ON row (name) WHERE name IS NOT NULL;
  CREATE INDEX IF NOT EXISTS row_by_deletion ON row (deleted_at) WHERE deleted_at IS NOT NULL;
  CREATE TABLE IF NOT EXISTS entry (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, doubt TEXT, value TEXT NOT NULL);
  CREATE INDEX IF NOT EXISTS entry_by_row ON entry (id);
  CREATE TABLE IF NOT EXISTS entry_name (name TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (name, seq)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS refusal (seq INTEGER PRIMARY KEY, value TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS value (key TEXT PRIMARY KEY, value TEXT NOT NULL);
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;`;
const TABLES = ['row', 'entry', 'entry_name', 'refusal', 'value'];

export function sqliteStorage(path: string): Storage {
  const database = new DatabaseSync(path);
  database.exec(SCHEMA);
  let last: Promise<unknown> = Promise.resolve();
  const transact = <T>(work: (tx: WriteTransaction) => Promise<T>): Promise<T> => {
    const run = async () => {
      database.exec('BEGIN IMMEDIATE');
      try {
        const result = await work(transactionOn(database));
        database.exec('COMMIT');
        return result;
      } catch (error) {
        database.exec('ROLLBACK');
        throw error;
      }
    };
    const turn = last.then(run, run);
    last = turn;
    return turn;
  };
  return {
    name: path,
    read: transact,
    write: transact,
    erase: () => transact(async () => { for (const table of TABLES) database.exec(`DELETE FROM ${table}`); }),
    close: () => { void last.then(() => database.close(), () => database.close()); },
  };
}

function transactionOn(database: DatabaseSync): WriteTransaction {
  const run = (sql: string, ...values: SQLInputValue[]) => database.prepare(sql).run(...values);
  const all = <T>(sql: string, ...values: SQLInputValue[]) =>
    database.prepare(sql).all(...values).map(({ value }) => JSON.parse(value as string) as T);
  const value = <T>(key: string) => all<T>('SELECT value FROM value WHERE key = ?', key)[0];
  return {
    installation: async () => value<Installation>('installation'),
    rows: async (ids) => all<Row>('SELECT value FROM row WHERE id IN (SELECT value FROM json_each(?))', JSON.stringify(ids)),
    rowsOfType: async (id) => all<Row>('SELECT value FROM row WHERE type_id = ? AND timestamp IS NOT NULL', id),
    rowsAfter: async (id, limit) => all<Row>('SELECT value FROM row WHERE id > ? ORDER BY id LIMIT ?', id ?? '', limit),
    events: async (range) => events(all, range),
    eventTypes: async () => all<Row>('SELECT value FROM row WHERE name IS NOT NULL'),
    tombstonesBefore: async (atMs, limit) => all<Row>('SELECT value FROM row WHERE deleted_at < ? LIMIT ?', atMs, limit),
    entriesFrom: async (seq, limit) => all<Entry>('SELECT value FROM entry WHERE seq >= ? ORDER BY seq LIMIT ?', seq, limit),
    entriesAbout: async (ids) => all<Entry>('SELECT value FROM entry WHERE id IN (SELECT value FROM json_each(?))', JSON.stringify(ids)),
    entriesNaming: async (id) => all<Entry>('SELECT value FROM entry_name JOIN entry USING (seq) WHERE entry_name.name = ?', id),
    entriesInDoubt: async () => all<Entry>("SELECT value FROM entry WHERE doubt = 'asked'"),
    refusals: async () => all<Refusal>('SELECT value FROM refusal ORDER BY seq'),
    value: async (key) => value<Json>(`value:${key}`),
    putValue: async (key, kept) => { run('REPLACE INTO value VALUES (?, ?)', `value:${key}`, JSON.stringify(kept)); },
    apply: async (changes) => apply(run, changes),
  };
}

function apply(run: (sql: string, ...values: SQLInputValue[]) => void, changes: CopyChanges): void {
  for (const row of changes.rows) {
    const text = (name: string) => (row.fields?.[name] as string | undefined) ?? null;
    run('REPLACE INTO row VALUES (?, ?, ?, ?, ?, ?)', row.id, text('eventTypeId'), text('timestamp'), text('name'), row.deletedAt ?? null, JSON.stringify(row));
  }
  for (const id of changes.removedRows) run('DELETE FROM row WHERE id = ?', id);
  for (const seq of [...changes.removedEntries, ...changes.entries.map((entry) => entry.seq)]) {
    run('DELETE FROM entry WHERE seq = ?', seq);
    run('DELETE FROM entry_name WHERE seq = ?', seq);
  }
  for (const entry of changes.entries) {
    run('INSERT INTO entry VALUES (?, ?, ?, ?)', entry.seq, entry.id, entry.doubt ?? null, JSON.stringify(entry));
    for (const name of new Set(entry.names)) run('INSERT INTO entry_name VALUES (?, ?)', name, entry.seq);
  }
  for (const refusal of changes.refusals) run('REPLACE INTO refusal VALUES (?, ?)', refusal.seq, JSON.stringify(refusal));
  for (const seq of changes.removedRefusals) run('DELETE FROM refusal WHERE seq = ?', seq);
  run("REPLACE INTO value VALUES ('installation', ?)", JSON.stringify(changes.installation));
}

/** Newest first; the conditions that a range does not have are left out, so that an index serves the order. */
function events(all: <T>(sql: string, ...values: SQLInputValue[]) => T[], { eventTypeId, from, to, after, limit }: EventRange): Row[] {
  const conditions: [string, ...SQLInputValue[]][] = [['timestamp IS NOT NULL']];
  if (eventTypeId !== undefined) conditions.push(['type_id = ?', eventTypeId]);
  if (from !== undefined) conditions.push(['timestamp >= ?', from]);
  if (to !== undefined) conditions.push(['timestamp < ?', to]);
  if (after) conditions.push(['(timestamp, id) < (?, ?)', after.timestamp, after.id]);
  const where = conditions.map(([sql]) => sql).join(' AND ');
  const values = conditions.flatMap(([, ...bound]) => bound);
  return all<Row>(`SELECT value FROM row WHERE ${where} ORDER BY timestamp DESC, id DESC LIMIT ?`, ...values, Math.min(limit, 1e9));
}
