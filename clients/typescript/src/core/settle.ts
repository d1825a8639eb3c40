// Takes the server's answer to one entry of the outbox. The table of outcomes is in the guide "Writing an offline
// client" of the server's documentation; the test vectors list its cases.

import { inputOf, isEqual, patchOf, project, shows } from './content.js';
import type { Copy } from './copy.js';
import { type Context, type Entry, type Fields, type Problem, type Result, type Row, createKind, entityOf, isCreate, isDelete, isUpdate, updateKind } from './model.js';
import { LONGEST_WAIT_MS } from './pull.js';

/** An id of an event that is further ahead of the server's clock than this is replaced; others wait. */
const REPLACED_BEYOND_MS = 300_000;
const RETRY_MS = 1_000;

export function settle(copy: Copy, sent: Entry, result: Result, context: Context): void {
  // Something earlier in the same batch may have replaced it, renamed its row, or taken it back.
  const entry = copy.entry(sent.seq);
  const row = entry && copy.row(entry.id);
  if (!entry || !row) return;
  switch (result.outcome) {
    case 'CREATED':
    case 'UPDATED':
      return done(copy, entry, result, context);
    case 'DUPLICATE':
      return duplicate(copy, entry, row, result, context);
    case 'UNCHANGED':
      return unchanged(copy, entry, result, context);
    case 'DELETED':
      return deleted(copy, entry, result, context);
    case 'CONFLICT':
      return conflict(copy, entry, row, result, context);
    case 'REJECTED':
      return rejected(copy, entry, row, result, context);
    default:
      return unknown(copy, entry, result.problem ?? unknownOutcome(result.outcome), context);
  }
}

/** The entry is done; the row has what the server has, with the entries that are still queued on top. */
function done(copy: Copy, entry: Entry, { stored, version }: Result, context: Context): void {
  copy.removeEntry(entry);
  const id = stored?.id ?? entry.id;
  if (id !== entry.id) copy.rename(entityOf(entry.kind), entry.id, id, context.nowMs);
  take(copy, id, stored, version ?? 0);
  copy.reproject(id, context.nowMs);
}

/** Makes what the server has the base of a row. */
function take(copy: Copy, id: string, stored: Result['stored'], version: number): void {
  const row = copy.row(id);
  if (!row) return;
  const { refused: _refused, ...rest } = row;
  copy.putRow({ ...rest, version, base: withoutId(stored), baseVersion: version });
}

function withoutId(stored: Result['stored']): Fields | null {
  if (!stored) return null;
  const { id: _id, ...fields } = stored;
  return fields;
}

function duplicate(copy: Copy, entry: Entry, row: Row, result: Result, context: Context): void {
  const version = result.version ?? 0;
  const own = row.base ?? row.fields;
  if (!result.differs || version >= row.version || !own) return done(copy, entry, result, context);
  // The server has lost edits that it had acknowledged: they are made again, on what it has.
  const patch = patchOf(row.entity, own);
  take(copy, entry.id, result.stored, version);
  replace(copy, entry, { kind: updateKind(row.entity), input: { id: entry.id, patch, expectedVersion: version, editId: copy.nextEditId(context) } });
  copy.reproject(entry.id, context.nowMs);
}

function unchanged(copy: Copy, entry: Entry, result: Result, context: Context): void {
  const { stored, version } = result;
  const isLast = copy.entriesOf(entry.id).at(-1)?.seq === entry.seq;
  const isOld = isLast && entry.input.expectedVersion !== version && !shows(withoutId(stored), entry.kind, entry.input);
  if (!isOld) return done(copy, entry, result, context);
  // The server took the edit for one that a later edit had overtaken: it is made again, on what is stored.
  take(copy, entry.id, stored, version ?? 0);
  replace(copy, entry, { input: { ...entry.input, expectedVersion: version, editId: copy.nextEditId(context) } });
  copy.reproject(entry.id, context.nowMs);
}

/** The row is deleted. Edits that another device's deletion has overtaken are kept as refused. */
function deleted(copy: Copy, entry: Entry, result: Result, context: Context): void {
  if (isUpdate(entry.kind)) {
    const queued = copy.entriesOf(entry.id);
    const restored = queued.findIndex(({ kind }) => kind === 'restoreEvent');
    // What comes after an own restore is about the restored row.
    const overtakenOnes = restored < 0 ? queued : queued.slice(0, restored);
    // This device has deleted it too: nobody misses the edits.
    const isOwn = overtakenOnes.some(({ kind }) => isDelete(kind));
    for (const other of overtakenOnes.filter(({ kind }) => isUpdate(kind))) {
      if (isOwn) copy.removeEntry(other);
      else copy.refuse(other, overtaken(), context.nowMs);
    }
  } else {
    copy.removeEntry(entry);
  }
  take(copy, entry.id, null, result.version ?? 0);
  copy.reproject(entry.id, context.nowMs);
}

function conflict(copy: Copy, entry: Entry, row: Row, result: Result, context: Context): void {
  const { stored, version } = result;
  // The server has an older version than it had acknowledged: a pull tells whether it has lost something.
  if (version !== null && version < row.version && entry.doubt === undefined) return replace(copy, entry, { doubt: 'asked' });
  const theirs = withoutId(stored);
  // A restore only brings the event back. If another device has restored it, the content of that device stays.
  if (theirs && entry.kind === 'restoreEvent') return done(copy, entry, result, context);
  const patch = (entry.input.patch ?? {}) as Fields;
  const base = row.base ?? null;
  const merged = theirs ? context.merge({ entity: row.entity, id: entry.id, kind: entry.kind, patch, base, theirs }) : patch;
  const isMoot = merged === null || (isUpdate(entry.kind) && theirs !== null && shows(theirs, entry.kind, { patch: merged }));
  if (isMoot) return done(copy, entry, result, context);
  take(copy, entry.id, stored, version ?? 0);
  const input: Fields = { ...entry.input, expectedVersion: version };
  if (isUpdate(entry.kind)) input.patch = merged;
  // An input that has changed must not be taken for the one that was sent before.
  if (!isEqual(merged, patch)) input.editId = copy.nextEditId(context);
  replace(copy, entry, { input });
  copy.reproject(entry.id, context.nowMs);
}

function rejected(copy: Copy, entry: Entry, row: Row, { problem: given, outcome }: Result, context: Context): void {
  const problem = given ?? unknownOutcome(outcome);
  const { code } = problem;
  // A pull tells the server's time before the id is replaced: what this device knows of it may be wrong too.
  if (code === 'ID_IN_FUTURE' && isFarAhead(problem)) {
    return entry.doubt === 'confirmed' ? replaceId(copy, entry, row, context) : replace(copy, entry, { doubt: 'asked' });
  }
  // What it needs was replaced just now, or waits: it waits with that.
  if (code === 'DEPENDENCY_REJECTED' && waitsForAnother(copy, entry)) return;
  if (problem.retryable) return wait(copy, entry, problem, context);
  if (code === 'NOT_FOUND' && isDelete(entry.kind)) return done(copy, entry, { ...nothing, version: row.version }, context);
  const isKnownHere = code === 'NOT_FOUND' ? row.version > 0 : code === 'EVENT_TYPE_NOT_FOUND';
  if (isKnownHere && entry.doubt === undefined) return replace(copy, entry, { doubt: 'asked' });
  if (isKnownHere && code === 'NOT_FOUND') return createAgain(copy, entry, row, context);
  refuse(copy, entry, problem, context);
}

const nothing: Omit<Result, 'version'> = { outcome: 'DELETED', differs: false, problem: null, stored: null };

/** An outcome that this version does not know: its problem says whether to send again. */
function unknown(copy: Copy, entry: Entry, problem: Problem, context: Context): void {
  if (problem.retryable) wait(copy, entry, problem, context);
  else refuse(copy, entry, problem, context);
}

function wait(copy: Copy, entry: Entry, problem: Problem, context: Context): void {
  replace(copy, entry, { notBefore: context.nowMs + Math.min(problem.retryAfterMs ?? RETRY_MS, LONGEST_WAIT_MS) });
}

/** Whether the clock was so far ahead that waiting is no way out: the id is replaced. */
export const isFarAhead = ({ retryable, retryAfterMs }: Problem) => !retryable || (retryAfterMs ?? 0) > REPLACED_BEYOND_MS;

function waitsForAnother(copy: Copy, entry: Entry): boolean {
  return [entry.id, ...entry.names].some((id) => copy.entriesOf(id).some((other) => other.seq < entry.seq));
}

/** The clock was ahead when this id was made: the row gets another id, and so does everything that names it. */
function replaceId(copy: Copy, entry: Entry, row: Row, context: Context): void {
  const { doubt: _doubt, ...asNew } = entry;
  copy.putEntry(asNew);
  const id = context.newId(context.serverNowMs);
  copy.rename(row.entity, entry.id, id, context.nowMs);
}

/** The server has lost the row: it is created again with the content that this device has. */
function createAgain(copy: Copy, entry: Entry, row: Row, context: Context): void {
  const content = project(row.base ?? null, [entry]) ?? row.fields;
  if (!content) return done(copy, entry, { ...nothing, version: row.version }, context);
  const { version: _version, baseVersion: _baseVersion, ...rest } = row;
  copy.putRow({ ...rest, version: 0, base: null, baseVersion: 0 });
  replace(copy, entry, { kind: createKind(row.entity), input: inputOf(row.entity, row.id, content) });
  copy.reproject(entry.id, context.nowMs);
}

/**
 * Keeps an entry as refused and shows the row as the server has it, with the entries that are still queued. If the
 * server refused to create the row, the edits that are queued go into the refused input, so that the list of
 * refusals has the row once.
 */
export function refuse(copy: Copy, entry: Entry, problem: Problem, context: Context): void {
  const row = copy.row(entry.id);
  if (row && isCreate(entry.kind) && row.version === 0) {
    let { input } = entry;
    const later = copy.entriesOf(entry.id).filter(({ seq }) => seq > entry.seq);
    const isDeleted = later.some(({ kind }) => isDelete(kind)) && row.fields === null;
    for (const other of later) {
      if (isUpdate(other.kind)) input = { ...input, ...(other.input.patch as Fields) };
      if (other.kind === 'restoreEvent') input = { ...input, ...(other.input.event as Fields) };
      copy.removeEntry(other);
    }
    if (isDeleted) {
      copy.removeEntry(entry);
      copy.forgetRow(row, context.nowMs);
      return;
    }
    copy.refuse({ ...entry, input }, problem, context.nowMs);
    const { base: _base, baseVersion: _baseVersion, ...rest } = row;
    copy.putRow({ ...rest, pending: 0, refused: true });
    return;
  }
  copy.refuse(entry, problem, context.nowMs);
  copy.reproject(entry.id, context.nowMs);
}

function replace(copy: Copy, entry: Entry, changes: Partial<Entry>): void {
  copy.putEntry({ ...entry, ...changes });
}

const overtaken = (): Problem => ({
  code: 'DELETED', detail: 'Another device deleted it before this edit arrived.', retryable: false, retryAfterMs: null,
});

const unknownOutcome = (outcome: string): Problem => ({
  code: 'UNKNOWN_OUTCOME', detail: `The server answered with the outcome ${JSON.stringify(outcome)}, which this version does not know.`, retryable: false, retryAfterMs: null,
});
