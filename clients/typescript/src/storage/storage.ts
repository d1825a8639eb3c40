// What the kit needs of a database. `indexeddb.ts` and `memory.ts` implement it; so does the SQLite storage of the
// tests, which shows what a storage for React Native looks like.

import type { CopyChanges } from '../core/copy.js';
import type { Entry, Installation, Json, Refusal, Row } from '../core/model.js';

export interface Storage {
  /** Tells this database from others: tabs that have the same one choose a leader among them. */
  readonly name: string;
  /** Runs reads that see one state. */
  read<T>(work: (tx: ReadTransaction) => Promise<T>): Promise<T>;
  /**
   * Runs reads and then one `apply`. All of it is stored, or nothing; nothing else writes in between. It resolves when
   * the data is durable: `relaxed` leaves it to the system when it reaches the disk, for what the server still has.
   * Rejects with `StorageError`.
   */
  write<T>(work: (tx: WriteTransaction) => Promise<T>, durability?: 'strict' | 'relaxed'): Promise<T>;
  /** Deletes everything that is stored. */
  erase(): Promise<void>;
  close(): void;
}

export interface ReadTransaction {
  installation(): Promise<Installation | undefined>;
  /** The rows with these ids, in any order; unknown ids are left out. */
  rows(ids: string[]): Promise<Row[]>;
  /** All rows of events of this type. */
  rowsOfType(eventTypeId: string): Promise<Row[]>;
  /** Rows in the order of their ids, deleted ones too. */
  rowsAfter(id: string | null, limit: number): Promise<Row[]>;
  /** Events that are not deleted, newest first, by timestamp and then id. */
  events(query: EventRange): Promise<Row[]>;
  /** Event types that are not deleted, in any order. */
  eventTypes(): Promise<Row[]>;
  /** Tombstones that are older than this time in Unix milliseconds. */
  tombstonesBefore(atMs: number, limit: number): Promise<Row[]>;
  /** The outbox from a place on, in order. */
  entriesFrom(seq: number, limit: number): Promise<Entry[]>;
  /** All entries about these rows, in any order. */
  entriesAbout(ids: string[]): Promise<Entry[]>;
  /** All entries that name this event type, in any order. */
  entriesNaming(eventTypeId: string): Promise<Entry[]>;
  /** All entries that wait for a complete pull. */
  entriesInDoubt(): Promise<Entry[]>;
  refusals(): Promise<Refusal[]>;
  /** A value that `putValue` stored. */
  value(key: string): Promise<Json | undefined>;
}

export interface WriteTransaction extends ReadTransaction {
  apply(changes: CopyChanges): Promise<void>;
  putValue(key: string, value: Json): Promise<void>;
}

/** `from` is included, `to` is not; both are timestamps in the server's format. */
export interface EventRange {
  eventTypeId?: string;
  from?: string;
  to?: string;
  /** Events that come after this one in the order. */
  after?: { timestamp: string; id: string };
  limit: number;
}

/**
 * Why a storage failed. `full`: there is no space. `outdated`: a newer version of the app is open and needs the
 * database. `unavailable`: it cannot be opened, for example in a private window. `lost`: it was deleted meanwhile.
 * `closed`: the app has closed it, or the user has signed out.
 */
export type StorageFailure = 'full' | 'outdated' | 'unavailable' | 'lost' | 'closed';

export class StorageError extends Error {
  override readonly name = 'StorageError';
  constructor(readonly failure: StorageFailure, options?: ErrorOptions) {
    super(`the storage of this device is ${failure}`, options);
  }
}
