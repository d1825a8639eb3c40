// The data that the rules of this folder work on. It is plain data: a storage keeps it, and the test vectors spell
// it as JSON.

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Fields = { [name: string]: Json };
export type Entity = 'EVENT' | 'EVENT_TYPE';

/** What this device knows of one event or event type. A deleted one stays as a tombstone for 30 days. */
export interface Row {
  id: string;
  entity: Entity;
  /** The version that the user saw: the last one that the server acknowledged or a pull brought; 0 if there is none. */
  version: number;
  /** The content that the app shows; null if it is deleted here. */
  fields: Fields | null;
  /** How many entries of the outbox are about this row. */
  pending: number;
  /** While entries are queued: the newest content that the server is known to have; null if it has none. */
  base?: Fields | null;
  /** The version of `base`. */
  baseVersion?: number;
  /** The server refused to create it. The refused write is in the list of refusals. */
  refused?: true;
  /** It has this id from now on. The row is kept as long as a tombstone, for an app that still knows the old id. */
  renamedTo?: string;
  /** When it was found to be deleted, or renamed, in Unix milliseconds. */
  deletedAt?: number;
  /** The number of the bootstrap that named this row last. */
  round: number;
}

export type Kind =
  | 'createEvent' | 'updateEvent' | 'deleteEvent' | 'restoreEvent'
  | 'createEventType' | 'updateEventType' | 'deleteEventType';

/** One write that the server has not answered for good: an item of `applyMutations`. */
export interface Entry {
  /** The place in the outbox. */
  seq: number;
  /** The row that it is about. */
  id: string;
  kind: Kind;
  /** The input, as `applyMutations` takes it. */
  input: Fields;
  /** The event types that it names beside its row. */
  names: string[];
  /** It is not sent before this time, in Unix milliseconds. */
  notBefore: number;
  /**
   * The server does not know something that this device knows. `asked`: the entry waits for a complete pull.
   * `confirmed`: the pull did not explain it, so the next refusal is final.
   */
  doubt?: 'asked' | 'confirmed';
}

export interface Problem {
  code: string;
  detail: string | null;
  retryable: boolean;
  retryAfterMs: number | null;
  errors?: { pointer: string; code: string; detail: string }[];
}

/** A write that the server refused for good. */
export interface Refusal {
  /** The place that the write had in the outbox; it names the refusal. */
  seq: number;
  id: string;
  kind: Kind;
  input: Fields;
  problem: Problem;
  /** When the refusal arrived, in Unix milliseconds. */
  at: number;
}

/** The server's answer to one entry. `stored`: the row after the write; null if it is deleted or was rejected. */
export interface Result {
  outcome: string;
  version: number | null;
  differs: boolean;
  problem: Problem | null;
  stored: (Fields & { id: string }) | null;
}

/** One entity of the feed at its newest position. */
export interface Change {
  entity: Entity;
  entityId: string;
  version: number;
  deleted: boolean;
  stored: (Fields & { id: string }) | null;
}

/** One page of the feed. */
export interface Page {
  changes: Change[];
  cursor: string;
  hasMore: boolean;
  reset: 'CURSOR_INVALID' | 'EPOCH_CHANGED' | null;
  /** The server's clock, in Unix milliseconds. */
  serverTime: number;
}

/**
 * What is sent again after `EPOCH_CHANGED`, in this order: event types, events, deletions of events, deletions of
 * event types. `after` is the last id of the stage that was sent.
 */
export interface Resend {
  stage: 'types' | 'events' | 'deletedEvents' | 'deletedTypes';
  after: string | null;
}

/** What an installation remembers beside its rows. All of it is lost together, so that a new one starts clean. */
export interface Installation {
  clientId: string;
  /** The next place in the outbox: above that of every entry and refusal that was ever made. */
  nextSeq: number;
  /** How many entries are in the outbox. */
  pending: number;
  /** How many writes are refused. */
  refused: number;
  /** The last edit id that was made; null before the first. */
  lastEdit: string | null;
  /** The position in the feed; null before the first page. */
  cursor: string | null;
  /** The number of the newest bootstrap. Rows of older ones that it does not name are gone. */
  round: number;
  /** Whether that bootstrap is still under way. */
  isBootstrapping: boolean;
  resend: Resend | null;
  /** Ascends with each new leader. A leader that finds a higher number than its own stops writing. */
  term: number;
  lastSyncedAt: number | null;
  /** The user has signed out: nothing more is written, because the data are about to be deleted. */
  isSignedOut: boolean;
}

export const newInstallation = (clientId: string): Installation => ({
  clientId, nextSeq: 1, pending: 0, refused: 0, lastEdit: null, cursor: null, round: 1, isBootstrapping: true, resend: null, term: 0, lastSyncedAt: null, isSignedOut: false,
});

/** What a merge function of the app gets for a write that met another device's newer version. */
export interface Conflict {
  entity: Entity;
  id: string;
  kind: Kind;
  /** What this device changes: the fields of the edit. Empty for a deletion. */
  patch: Fields;
  /** What this device knew of the server's content before this answer: it may be newer than the edit. */
  base: Fields | null;
  /** The content that the server has now. */
  theirs: Fields;
}

/** Returns the fields to send on top of `theirs`; for a deletion anything but null deletes. Null gives the write up. */
export type Merge = (conflict: Conflict) => Fields | null;

/** Fields that the app should be told of after a transaction. */
export type Notice =
  | { type: 'renamed'; entity: Entity; from: string; to: string }
  | { type: 'refused'; refusal: Refusal };

/** What the rules take from outside: the time, new ids, and the app's merge. */
export interface Context {
  nowMs: number;
  /** The estimate of the server's clock, in Unix milliseconds. */
  serverNowMs: number;
  newId: (nowMs: number) => string;
  newEditId: (last: string | null) => string;
  merge: Merge;
}

export const isDelete = (kind: Kind) => kind === 'deleteEvent' || kind === 'deleteEventType';
export const isCreate = (kind: Kind) => kind === 'createEvent' || kind === 'createEventType';
export const isUpdate = (kind: Kind) => kind === 'updateEvent' || kind === 'updateEventType';
export const createKind = (entity: Entity): Kind => (entity === 'EVENT' ? 'createEvent' : 'createEventType');
export const updateKind = (entity: Entity): Kind => (entity === 'EVENT' ? 'updateEvent' : 'updateEventType');
export const deleteKind = (entity: Entity): Kind => (entity === 'EVENT' ? 'deleteEvent' : 'deleteEventType');
export const entityOf = (kind: Kind): Entity => (kind.endsWith('EventType') ? 'EVENT_TYPE' : 'EVENT');
