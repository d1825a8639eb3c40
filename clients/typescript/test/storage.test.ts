// Tests every storage in the same way: it keeps what was written, reads it in the right order, and stores all of a
// transaction or nothing.
import 'fake-indexeddb/auto';

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, describe, expect, test } from 'vitest';

import { Copy } from '../src/core/copy.js';
import type { Entry, Row } from '../src/core/model.js';
import { newInstallation } from '../src/core/model.js';
import { type Storage, indexedDbStorage, memoryStorage } from '../src/storage/index.js';
import { sqliteStorage } from './support/sqlite-storage.js';

const dir = mkdtempSync(join(tmpdir(), 'idem-storage-'));
afterAll(() => rmSync(dir, { recursive: true }));
let names = 0;

/** Opens a storage, and opens what it has stored again. */
const KINDS: [string, () => { storage: Storage; reopen: () => Storage }][] = [
  ['memory', () => { const storage = memoryStorage(); return { storage, reopen: () => storage }; }],
  ['IndexedDB', () => { const name = `test ${names += 1}`; return { storage: indexedDbStorage(name), reopen: () => indexedDbStorage(name) }; }],
  ['SQLite', () => { const path = join(dir, `${names += 1}.db`); return { storage: sqliteStorage(path), reopen: () => sqliteStorage(path) }; }],
];

const event = (id: string, eventTypeId: string, timestamp: string): Row =>
  ({ id, entity: 'EVENT', version: 1, fields: { eventTypeId, timestamp }, pending: 0, round: 1 });
const entry = (seq: number, id: string, eventTypeId: string, more: Partial<Entry> = {}): Entry =>
  ({ seq, id, kind: 'createEvent', input: { id, eventTypeId }, names: [eventTypeId], notBefore: 0, ...more });

/** Stores rows and entries in one transaction. */
async function store(storage: Storage, rows: Row[], entries: Entry[] = [], removed: { rows?: string[]; entries?: Entry[] } = {}): Promise<void> {
  await storage.write(async (tx) => {
    const installation = (await tx.installation()) ?? newInstallation('client');
    const copy = new Copy({ rows: [], entries: removed.entries ?? [], installation });
    for (const row of rows) copy.putRow(row);
    for (const id of removed.rows ?? []) copy.removeRow(id);
    for (const added of entries) copy.putEntry(added);
    for (const gone of removed.entries ?? []) copy.removeEntry(gone);
    await tx.apply(copy.changes());
  });
}

describe.for(KINDS)('%s', ([, open]) => {
  test('keeps everything between two starts', async () => {
    const { storage, reopen } = open();
    await store(storage, [event('a', 't', '2026-01-01T00:00:00.000Z')], [entry(1, 'a', 't')]);
    await storage.write((tx) => tx.putValue('key', { kept: [1, null] }));
    if (reopen() !== storage) storage.close();
    const read = await reopen().read(async (tx) => [await tx.rows(['a', 'none']), await tx.entriesFrom(0, 10), await tx.installation(), await tx.value('key'), await tx.value('none')]);
    expect(read).toEqual([
      [event('a', 't', '2026-01-01T00:00:00.000Z')], [entry(1, 'a', 't')], { ...newInstallation('client'), pending: 1 }, { kept: [1, null] }, undefined,
    ]);
  });

  test('reads events newest first, by ranges and types, page by page', async () => {
    const { storage } = open();
    const times = ['2025-01-01', '2026-01-01', '2026-01-01', '2027-01-01'].map((date) => `${date}T00:00:00.000Z`);
    const rows = times.map((timestamp, number) => event(`id${number}`, number % 2 ? 'odd' : 'even', timestamp));
    const type: Row = { id: 'odd', entity: 'EVENT_TYPE', version: 1, fields: { name: 'Odd' }, pending: 0, round: 1 };
    const deleted: Row = { ...event('gone', 'odd', times[0]!), fields: null, deletedAt: 5 };
    await store(storage, [...rows, type, deleted]);
    const ids = (range: object) => storage.read(async (tx) => (await tx.events({ limit: 10, ...range })).map(({ id }) => id));
    expect(await ids({})).toEqual(['id3', 'id2', 'id1', 'id0']);
    expect(await ids({ limit: 2 })).toEqual(['id3', 'id2']);
    expect(await ids({ after: { timestamp: times[2], id: 'id2' } })).toEqual(['id1', 'id0']);
    expect(await ids({ from: times[1], to: times[3] })).toEqual(['id2', 'id1']);
    expect(await ids({ eventTypeId: 'odd' })).toEqual(['id3', 'id1']);
    expect(await ids({ eventTypeId: 'odd', to: times[3] })).toEqual(['id1']);
    expect(await ids({ eventTypeId: 'none' })).toEqual([]);
    expect(await storage.read(async (tx) => (await tx.eventTypes()).map(({ id }) => id))).toEqual(['odd']);
    expect(await storage.read(async (tx) => (await tx.rowsOfType('even')).map(({ id }) => id).sort())).toEqual(['id0', 'id2']);
    expect(await storage.read(async (tx) => (await tx.tombstonesBefore(6, 10)).map(({ id }) => id))).toEqual(['gone']);
    expect(await storage.read((tx) => tx.tombstonesBefore(5, 10))).toEqual([]);
    expect(await storage.read(async (tx) => (await tx.rowsAfter('id1', 2)).map(({ id }) => id))).toEqual(['id2', 'id3']);
    expect(await storage.read(async (tx) => (await tx.rowsAfter(null, 1)).map(({ id }) => id))).toEqual(['gone']);
  });

  test('finds entries by their rows, by the types that they name, and by their doubt', async () => {
    const { storage } = open();
    const entries = [entry(1, 'a', 't'), entry(2, 'b', 'u'), entry(3, 'a', 'u', { doubt: 'asked' }), entry(4, 'c', 't', { doubt: 'confirmed' })];
    await store(storage, [], entries);
    const seqs = async (found: Promise<Entry[]>) => (await found).map(({ seq }) => seq).sort();
    const read = () => storage.read(async (tx) => [
      await seqs(tx.entriesAbout(['a', 'c'])), await seqs(tx.entriesNaming('u')), await seqs(tx.entriesInDoubt()), await seqs(tx.entriesFrom(2, 2)),
    ]);
    expect(await read()).toEqual([[1, 3, 4], [2, 3], [3], [2, 3]]);
    await store(storage, [], [], { entries: [entries[2]!] });
    expect(await read()).toEqual([[1, 4], [2], [], [2, 4]]);
    expect((await storage.read((tx) => tx.installation()))!.pending).toBe(3);
  });

  test('stores nothing of a transaction that fails', async () => {
    const { storage } = open();
    await store(storage, [event('a', 't', '2026-01-01T00:00:00.000Z')]);
    const failing = storage.write(async (tx) => {
      const copy = new Copy({ rows: [], entries: [], installation: newInstallation('other') });
      copy.putRow(event('b', 't', '2026-01-01T00:00:00.000Z'));
      await tx.apply(copy.changes());
      throw new Error('stopped');
    });
    await expect(failing).rejects.toThrow('stopped');
    const read = await storage.read(async (tx) => [(await tx.rowsAfter(null, 9)).map(({ id }) => id), (await tx.installation())!.clientId]);
    expect(read).toEqual([['a'], 'client']);
  });

  test('writes one after the other, so that a counter never goes back', async () => {
    const { storage } = open();
    const next = () => storage.write(async (tx) => {
      const value = ((await tx.value('counter')) as number | undefined) ?? 0;
      await tx.putValue('counter', value + 1);
      return value + 1;
    });
    expect((await Promise.all(Array.from({ length: 20 }, next))).sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, number) => number + 1));
  });

  test('has nothing after it was erased', async () => {
    const { storage, reopen } = open();
    await store(storage, [event('a', 't', '2026-01-01T00:00:00.000Z')], [entry(1, 'a', 't')]);
    await storage.erase();
    expect(await reopen().read(async (tx) => [await tx.rowsAfter(null, 9), await tx.entriesFrom(0, 9), await tx.installation()])).toEqual([[], [], undefined]);
  });
});
