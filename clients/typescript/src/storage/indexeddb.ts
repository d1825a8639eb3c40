// The storage of browsers. One database for each server, issuer and subject, so that two users of a browser never mix.

import { type DBSchema, type IDBPDatabase, type IDBPTransaction, type StoreNames, deleteDB, openDB } from 'idb';

import type { CopyChanges } from '../core/copy.js';
import type { Entry, Installation, Json, Refusal, Row } from '../core/model.js';
import { type EventRange, type Storage, StorageError, type WriteTransaction } from './storage.js';

const VERSION = 1;

interface Schema extends DBSchema {
  rows: {
    key: string;
    value: Row;
    indexes: { byTime: [string, string]; byType: [string, string, string]; byName: string; byDeletedAt: number };
  };
  outbox: { key: number; value: Entry; indexes: { byRow: string; byName: string; byDoubt: string } };
  refusals: { key: number; value: Refusal };
  /** The installation under `installation`, and what `putValue` stores. */
  values: { key: string; value: Installation | Json };
}

const STORES: StoreNames<Schema>[] = ['rows', 'outbox', 'refusals', 'values'];
const INSTALLATION = 'installation';

/**
 * Opens the database at the first use, and again after it was deleted under the running page. `name`: see
 * `databaseName`. `onFailure` is called when the database fails between two transactions.
 */
export function indexedDbStorage(name: string, onFailure: (error: StorageError) => void = () => {}): Storage {
  let opened: Promise<IDBPDatabase<Schema>> | undefined;
  /** Why it is not opened again. */
  let ended: StorageError | undefined;

  const open = (): Promise<IDBPDatabase<Schema>> => {
    if (ended) return Promise.reject(ended);
    // Node has no IndexedDB: a program there gives a storage.
    if (typeof indexedDB === 'undefined') return Promise.reject(new StorageError('unavailable'));
    opened ??= openDB<Schema>(name, VERSION, {
      upgrade: (database) => {
        const rows = database.createObjectStore('rows', { keyPath: 'id' });
        rows.createIndex('byTime', ['fields.timestamp', 'id']);
        rows.createIndex('byType', ['fields.eventTypeId', 'fields.timestamp', 'id']);
        rows.createIndex('byName', 'fields.name');
        rows.createIndex('byDeletedAt', 'deletedAt');
        const outbox = database.createObjectStore('outbox', { keyPath: 'seq' });
        outbox.createIndex('byRow', 'id');
        outbox.createIndex('byName', 'names', { multiEntry: true });
        outbox.createIndex('byDoubt', 'doubt');
        database.createObjectStore('refusals', { keyPath: 'seq' });
        database.createObjectStore('values');
      },
      // A newer version of the app, or a sign-out in another tab, needs the database for itself.
      blocking: (_current, blocked, event) => {
        (event.target as IDBDatabase).close();
        opened = undefined;
        if (blocked === null) return;
        ended = new StorageError('outdated');
        onFailure(ended);
      },
      terminated: () => {
        opened = undefined;
        onFailure(new StorageError('lost'));
      },
    }).catch((cause: DOMException) => {
      opened = undefined;
      throw new StorageError(cause.name === 'VersionError' ? 'outdated' : 'unavailable', { cause });
    });
    return opened;
  };

  const transact = async <T>(mode: 'readonly' | 'readwrite', durability: 'strict' | 'relaxed', work: (tx: WriteTransaction) => Promise<T>): Promise<T> => {
    const tx = await begin(open, mode, durability);
    const finished = tx.done.then(() => undefined, (error: unknown) => ({ error }));
    let result: T;
    try {
      result = await work(transactionOn(tx as unknown as Tx));
      tx.commit();
    } catch (error) {
      // If the browser had aborted it, the reason is in `done`: the request that failed only says that it was aborted.
      const aborted = abort(tx) ? undefined : await finished;
      const cause = aborted?.error ?? error;
      throw toStorageError(cause) ?? cause;
    }
    const failed = await finished;
    if (failed) throw toStorageError(failed.error) ?? failed.error;
    return result;
  };

  return {
    name,
    read: (work) => transact('readonly', 'relaxed', work),
    write: (work, durability = 'strict') => transact('readwrite', durability, work),
    erase: async () => {
      const database = await opened?.catch(() => undefined);
      opened = undefined;
      database?.close();
      await deleteDB(name);
    },
    close: () => {
      ended = new StorageError('closed');
      void opened?.then((database) => database.close(), () => {});
      opened = undefined;
    },
  };
}

type Tx = IDBPTransaction<Schema, StoreNames<Schema>[], 'readwrite'>;

/** Begins a transaction. A database that was closed meanwhile is opened once more. */
async function begin(open: () => Promise<IDBPDatabase<Schema>>, mode: 'readonly' | 'readwrite', durability: 'strict' | 'relaxed') {
  const database = await open();
  try {
    return database.transaction(STORES, mode, { durability });
  } catch (error) {
    if ((error as DOMException).name !== 'InvalidStateError') throw toStorageError(error) ?? error;
    return (await open()).transaction(STORES, mode, { durability });
  }
}

/** Aborts a transaction; returns whether it was still open. */
function abort(tx: { abort(): void }): boolean {
  try {
    tx.abort();
    return true;
  } catch {
    return false;
  }
}

function toStorageError(error: unknown): StorageError | undefined {
  const name = (error as DOMException | undefined)?.name;
  if (name === 'QuotaExceededError') return new StorageError('full', { cause: error });
  if (name === 'InvalidStateError' || name === 'AbortError') return new StorageError('lost', { cause: error });
  return name === 'UnknownError' ? new StorageError('unavailable', { cause: error }) : undefined;
}

function transactionOn(tx: Tx): WriteTransaction {
  const [rows, outbox, refusals, values] = [tx.objectStore('rows'), tx.objectStore('outbox'), tx.objectStore('refusals'), tx.objectStore('values')];
  return {
    installation: () => values.get(INSTALLATION) as Promise<Installation | undefined>,
    rows: async (ids) => (await Promise.all(ids.map((id) => rows.get(id)))).filter((row) => row !== undefined),
    rowsOfType: (eventTypeId) => rows.index('byType').getAll(IDBKeyRange.bound([eventTypeId], [eventTypeId, []])),
    rowsAfter: (id, limit) => rows.getAll(id === null ? null : IDBKeyRange.lowerBound(id, true), limit),
    events: (range) => eventsOf(tx, range),
    eventTypes: () => rows.index('byName').getAll(),
    tombstonesBefore: (atMs, limit) => rows.index('byDeletedAt').getAll(IDBKeyRange.upperBound(atMs, true), limit),
    entriesFrom: (seq, limit) => outbox.getAll(IDBKeyRange.lowerBound(seq), limit),
    entriesAbout: async (ids) => (await Promise.all(ids.map((id) => outbox.index('byRow').getAll(id)))).flat(),
    entriesNaming: (eventTypeId) => outbox.index('byName').getAll(eventTypeId),
    entriesInDoubt: () => outbox.index('byDoubt').getAll('asked'),
    refusals: () => refusals.getAll(),
    value: (key) => values.get(`value:${key}`) as Promise<Json | undefined>,
    putValue: async (key, value) => { await values.put(value, `value:${key}`); },
    apply: (changes) => apply(tx, changes),
  };
}

async function apply(tx: Tx, changes: CopyChanges): Promise<void> {
  const [rows, outbox, refusals, values] = [tx.objectStore('rows'), tx.objectStore('outbox'), tx.objectStore('refusals'), tx.objectStore('values')];
  const requests: Promise<unknown>[] = [
    ...changes.entries.map((entry) => outbox.put(entry)),
    ...changes.removedEntries.map((seq) => outbox.delete(seq)),
    ...changes.refusals.map((refusal) => refusals.put(refusal)),
    ...changes.removedRefusals.map((seq) => refusals.delete(seq)),
    ...changes.removedRows.map((id) => rows.delete(id)),
    values.put(changes.installation, INSTALLATION),
  ];
  // A page of the feed has many rows. They are stored in parts, so that no task of the page becomes long.
  for (let start = 0; start < changes.rows.length; start += PART) {
    requests.push(...changes.rows.slice(start, start + PART).map((row) => rows.put(row)));
    if (start + PART < changes.rows.length) await requests.at(-1);
  }
  await Promise.all(requests);
}

const PART = 100;

/** Newest first. Browsers that can read an index backwards at once do; others step. */
async function eventsOf(tx: Tx, { eventTypeId, from, to, after, limit }: EventRange): Promise<Row[]> {
  const rows = tx.objectStore('rows');
  const prefix = eventTypeId === undefined ? [] : [eventTypeId];
  const lower = from === undefined ? prefix : [...prefix, from];
  // An array sorts after every text: it ends the range.
  const upper = after ? [...prefix, after.timestamp, after.id] : to === undefined ? [...prefix, []] : [...prefix, to];
  const range = IDBKeyRange.bound(lower, upper, false, true);
  const index = (eventTypeId === undefined ? rows.index('byTime') : rows.index('byType')) as unknown as BackwardIndex;
  if ('getAllRecords' in index) return index.getAll({ query: range, count: limit, direction: 'prev' });
  const found: Row[] = [];
  for (let cursor = await index.openCursor(range, 'prev'); cursor && found.length < limit; cursor = await cursor.continue()) found.push(cursor.value);
  return found;
}

/** The part of an index that is the same for both. `idb` does not declare the options of `getAll` yet. */
interface BackwardIndex {
  getAll(options: { query: IDBKeyRange; count: number; direction: 'prev' }): Promise<Row[]>;
  openCursor(range: IDBKeyRange, direction: 'prev'): Promise<BackwardCursor | null>;
}
interface BackwardCursor {
  value: Row;
  continue(): Promise<BackwardCursor | null>;
}

/** The name of a user's database. */
export function databaseName(url: string, issuer: string | null, subject: string): string {
  return `idem ${JSON.stringify([new URL(url).href, issuer, subject])}`;
}
