export { type ChangedRow, type IdemOptions, type Verification, Idem, PendingWritesError, createIdem } from './client.js';
export type {
  EventChanges, EventLocation, EventTypeChanges, IdemEvent, IdemEventType, Instant, NewEvent, NewEventType, SyncState,
} from './api/entities.js';
export type { EventQuery, LiveList } from './api/live.js';
export type { CsvMapping, ImportFormat, ImportJob, ImportProgress, UploadOptions } from './imports/upload.js';
export { ImportError } from './imports/error.js';
export type { RefusedWrite } from './api/refused.js';
export type { StatsAnswer, StatsBucket, StatsInput } from './api/stats.js';
export type { Conflict, Entity, Json, Merge, Problem } from './core/model.js';
export { LocalError } from './core/write.js';
export { StorageError } from './storage/storage.js';
export type { Status } from './sync/status.js';
export { RequestError, type TokenSource } from './transport/http.js';
