export { databaseName, indexedDbStorage } from './indexeddb.js';
export { memoryStorage } from './memory.js';
export { type EventRange, type ReadTransaction, type Storage, StorageError, type StorageFailure, type WriteTransaction } from './storage.js';
export type { CopyChanges } from '../core/copy.js';
export type { Entry, Installation, Json, Refusal, Row } from '../core/model.js';
