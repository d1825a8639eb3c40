// Local writes: each changes the row that the app shows and queues what the server must do, in one transaction.

import { contentOf, patched } from './content.js';
import type { Copy } from './copy.js';
import { type Context, type Entity, type Fields, type Refusal, type Row, createKind, deleteKind, entityOf, isCreate, isUpdate, updateKind } from './model.js';

/** Why a local write is impossible. */
export class LocalError extends Error {
  override readonly name = 'LocalError';
  constructor(readonly code: 'NOT_FOUND' | 'ID_IN_USE' | 'NOT_DELETED', message: string) {
    super(message);
  }
}

/** The version that an edit names: the one that the user saw. The create that is still queued makes version 1. */
const seenVersion = (row: Row) => Math.max(row.version, 1);

/** The fields with the id by which an event type is known now: the app may still have an older one. */
function withCurrentType<T extends Fields>(copy: Copy, fields: T): T {
  return typeof fields.eventTypeId === 'string' ? { ...fields, eventTypeId: copy.currentId(fields.eventTypeId) } : fields;
}

function living(copy: Copy, entity: Entity, givenId: string): Row & { fields: Fields } {
  const id = copy.currentId(givenId);
  const row = copy.row(id);
  if (!row?.fields || row.entity !== entity) throw new LocalError('NOT_FOUND', `there is no ${entity === 'EVENT' ? 'event' : 'event type'} ${id}`);
  return { ...row, fields: row.fields };
}

/** Creates a row. `input` has its id and is in the form that the server takes. */
export function create(copy: Copy, entity: Entity, given: Fields & { id: string }, context: Context): Row {
  const input = withCurrentType(copy, given);
  const { id } = input;
  if (copy.row(id)) throw new LocalError('ID_IN_USE', `${id} is in use`);
  const now = new Date(context.nowMs).toISOString();
  const extra: Fields = entity === 'EVENT' ? { importJobId: null, createdAt: now, updatedAt: now } : { createdAt: now, updatedAt: now };
  copy.putRow({ id, entity, version: 0, fields: { ...contentOf(entity, input), ...extra }, base: null, pending: 1, round: copy.installation.round });
  copy.queue(createKind(entity), id, input);
  return copy.row(id)!;
}

/** Changes fields of a row. If the server had refused to create the row, it is created again with the change. */
export function update(copy: Copy, entity: Entity, givenId: string, changes: Fields, context: Context): Row {
  const row = living(copy, entity, givenId);
  const { id } = row;
  const patch = withCurrentType(copy, changes);
  const fields = patched(row.fields, patch);
  const refusal = row.refused && copy.refusals().find((other) => other.id === id && isCreate(other.kind));
  if (refusal) {
    sendAgain(copy, refusal, patch, context);
    return copy.row(id)!;
  }
  const base = row.pending > 0 ? {} : { base: row.fields, baseVersion: row.version };
  copy.putRow({ ...row, ...base, fields, pending: row.pending + 1 });
  copy.queue(updateKind(entity), id, { id, patch, expectedVersion: seenVersion(row), editId: copy.nextEditId(context) });
  return copy.row(id)!;
}

/** Deletes a row. A row that the server had refused is only forgotten. */
export function remove(copy: Copy, entity: Entity, givenId: string, context: Context): void {
  const row = living(copy, entity, givenId);
  const { id } = row;
  for (const refusal of copy.refusals().filter((other) => other.id === id)) copy.removeRefusal(refusal.seq);
  if (row.refused) return copy.forgetRow(row, context.nowMs);
  const base = row.pending > 0 ? {} : { base: row.fields, baseVersion: row.version };
  copy.putRow({ ...row, ...base, fields: null, deletedAt: context.nowMs, pending: row.pending + 1 });
  copy.queue(deleteKind(entity), id, { id, expectedVersion: seenVersion(row), editId: copy.nextEditId(context) });
}

/** Brings a deleted event back. `input` is its content, with its id. */
export function restore(copy: Copy, given: Fields & { id: string }, context: Context): Row {
  const input = withCurrentType(copy, { ...given, id: copy.currentId(given.id) });
  const { id } = input;
  const row = copy.row(id);
  if (row?.fields) throw new LocalError('NOT_DELETED', `${id} is not deleted`);
  const { deletedAt: _deletedAt, ...known } = row ?? { id, entity: 'EVENT' as const, version: 0, pending: 0, round: copy.installation.round };
  const base = known.pending > 0 ? {} : { base: null, baseVersion: known.version };
  copy.putRow({ ...known, ...base, fields: contentOf('EVENT', input), pending: known.pending + 1 });
  // Without a tombstone here, this device does not know the version that the server's has: none is asked.
  const guard: Fields = row && (row.version > 0 || row.pending > 0) ? { expectedVersion: seenVersion(row) } : {};
  copy.queue('restoreEvent', id, { event: input, ...guard, editId: copy.nextEditId(context) });
  return copy.row(id)!;
}

/** Sends a refused write again, with these changes of its fields. */
export function sendAgain(copy: Copy, refusal: Refusal, changes: Fields, context: Context): void {
  copy.removeRefusal(refusal.seq);
  const entity = entityOf(refusal.kind);
  const row = copy.row(refusal.id);
  if (isCreate(refusal.kind)) {
    const input = { ...refusal.input, ...changes, id: refusal.id };
    const known: Row = row ?? { id: refusal.id, entity, version: 0, fields: null, pending: 0, round: copy.installation.round };
    const { refused: _refused, ...rest } = known;
    copy.putRow({ ...rest, fields: { ...rest.fields, ...contentOf(entity, input) }, base: rest.base ?? null, pending: rest.pending + 1 });
    copy.queue(refusal.kind, refusal.id, input);
    // What was refused because it needs this row can now be stored.
    for (const other of copy.refusals()) {
      const needs = other.problem.code === 'DEPENDENCY_REJECTED' || other.problem.code === 'EVENT_TYPE_NOT_FOUND';
      const isPossible = isCreate(other.kind) || copy.row(other.id)?.fields;
      if (needs && isPossible && other.seq !== refusal.seq && namesType(other, refusal.id)) sendAgain(copy, other, {}, context);
    }
  } else if (isUpdate(refusal.kind)) {
    update(copy, entity, refusal.id, { ...(refusal.input.patch as Fields), ...changes }, context);
  } else if (refusal.kind === 'restoreEvent') {
    restore(copy, { ...(refusal.input.event as Fields), ...changes, id: refusal.id }, context);
  } else {
    remove(copy, entity, refusal.id, context);
  }
}

/** Forgets a refused write. A row that the server refused to create goes with it. */
export function discard(copy: Copy, refusal: Refusal, context: Context): void {
  copy.removeRefusal(refusal.seq);
  const row = copy.row(refusal.id);
  if (row?.refused && isCreate(refusal.kind) && row.pending === 0) copy.forgetRow(row, context.nowMs);
}

const namesType = ({ kind, input }: Refusal, id: string) =>
  [input.eventTypeId, (input.patch as Fields | undefined)?.eventTypeId, kind === 'restoreEvent' ? (input.event as Fields).eventTypeId : undefined].includes(id);
