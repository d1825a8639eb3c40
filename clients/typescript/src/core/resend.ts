// What is sent again after `EPOCH_CHANGED`: the server may have lost creates, edits and deletions that it had
// acknowledged. They come back from the devices. All of it is safe to send: what the server still has stays as it is.

import { inputOf, patchOf } from './content.js';
import type { Copy } from './copy.js';
import { type Context, type Fields, type Kind, type Resend, type Result, type Row, createKind, deleteKind, updateKind } from './model.js';

export interface ResentWrite {
  row: Row;
  kind: Kind;
  input: Fields;
}

/** The stages in order: events name types, so types come first and go last. */
const STAGES: Resend['stage'][] = ['types', 'events', 'deletedEvents', 'deletedTypes'];

/** The next step after this one, once all rows up to `after` were sent; null at the end. `after` is null at the end of a stage. */
export function nextStep({ stage }: Resend, after: string | null): Resend | null {
  if (after !== null) return { stage, after };
  const next = STAGES[STAGES.indexOf(stage) + 1];
  return next ? { stage: next, after: null } : null;
}

/** The write that sends a row again in this stage; undefined if the stage has none for it. */
export function resentWrite(copy: Copy, row: Row, stage: Resend['stage'], context: Context): ResentWrite | undefined {
  const isOfStage = (row.entity === 'EVENT') === (stage === 'events' || stage === 'deletedEvents');
  // What the server never acknowledged is in the outbox, or refused.
  if (!isOfStage || row.version === 0 || row.refused) return undefined;
  if (stage === 'types' || stage === 'events') {
    const content = row.base ?? row.fields;
    return content ? { row, kind: createKind(row.entity), input: inputOf(row.entity, row.id, content) } : undefined;
  }
  if (row.fields !== null || row.pending > 0) return undefined;
  const editId = copy.nextEditId(context);
  // The version that was deleted: if somebody has brought the row back since, the deletion does nothing.
  return { row, kind: deleteKind(row.entity), input: { id: row.id, expectedVersion: row.version - 1, editId } };
}

/** Takes the server's answer to a row that was sent again. */
export function settleResent(copy: Copy, { row: sent, kind, input }: ResentWrite, result: Result, context: Context): void {
  const { outcome, stored, version } = result;
  if (kind === deleteKind(sent.entity)) {
    const known = copy.row(sent.id);
    const isLost = outcome === 'CONFLICT' && stored !== null && version !== null && version < sent.version - 1;
    // The server lost edits of it too: it is deleted in the version that the server has.
    if (isLost && known && known.pending === 0) {
      const { id: _id, ...base } = stored;
      copy.putRow({ ...known, version, base, baseVersion: version, pending: 1 });
      copy.queue(kind, sent.id, { id: sent.id, expectedVersion: version, editId: copy.nextEditId(context) });
    }
    return;
  }
  if (stored && stored.id !== sent.id) copy.rename(sent.entity, sent.id, stored.id, context.nowMs);
  const row = copy.row(stored?.id ?? sent.id);
  if (!row) return;
  const isOlder = version !== null && version < row.version;
  if (outcome === 'CREATED') copy.putRow({ ...row, version: version ?? 1 });
  if (outcome === 'DUPLICATE' && isOlder) {
    copy.putRow({ ...row, version });
    if (result.differs && row.fields) makeAgain(copy, row, version, context);
  }
  if (outcome === 'DELETED' && isOlder && row.entity === 'EVENT' && row.fields && row.pending === 0) {
    copy.putRow({ ...row, version, base: null, baseVersion: version, pending: 1 });
    copy.queue('restoreEvent', row.id, { event: inputOf('EVENT', row.id, row.fields), expectedVersion: version, editId: copy.nextEditId(context) });
  }
  if (outcome === 'REJECTED' && result.problem && !result.problem.retryable) {
    const { nextSeq: seq } = copy.installation;
    copy.installation.nextSeq += 1;
    const refusal = { seq, id: row.id, kind, input, problem: result.problem, at: context.nowMs };
    copy.putRefusal(refusal);
    copy.notices.push({ type: 'refused', refusal });
    if (row.pending === 0) copy.putRow({ ...row, refused: true });
  }
}

/** The server lost edits of this row: its content is sent as an edit of the older version that the server has. */
function makeAgain(copy: Copy, row: Row, version: number, context: Context): void {
  const fields = row.fields!;
  const base = row.pending > 0 ? {} : { base: fields, baseVersion: version };
  copy.putRow({ ...row, ...base, version, pending: row.pending + 1 });
  copy.queue(updateKind(row.entity), row.id, { id: row.id, patch: patchOf(row.entity, fields), expectedVersion: version, editId: copy.nextEditId(context) });
}
