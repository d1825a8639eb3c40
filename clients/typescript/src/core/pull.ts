// Takes pages of the feed into the copy, and says what happens after a reset.

import type { Copy } from './copy.js';
import type { Change, Context, Entry, Fields, Page, Row } from './model.js';

/** No entry waits longer than this before it is sent again. */
export const LONGEST_WAIT_MS = 600_000;

/** How long deletions are kept, so that a server that lost them can be told again. */
export const TOMBSTONE_MS = 30 * 86_400_000;

/**
 * Applies one page. The rows of its changes must be loaded. The page and its cursor are stored together: a crash only
 * repeats a page, and never misses one.
 */
export function applyPage(copy: Copy, page: Page, context: Context): void {
  const { installation } = copy;
  if (page.reset) {
    // The cursor of the page starts a bootstrap. Rows that it will not name are gone at its end.
    installation.round += 1;
    installation.isBootstrapping = true;
    if (page.reset === 'EPOCH_CHANGED') installation.resend = { stage: 'types', after: null };
  }
  for (const change of page.changes) applyChange(copy, change, context);
  installation.cursor = page.cursor;
}

function applyChange(copy: Copy, change: Change, { nowMs }: Context): void {
  const { entityId: id, entity, version } = change;
  const stored = fieldsOf(change);
  const known = copy.row(id) ?? { id, entity, version: 0, fields: null, pending: 0, round: 0 };
  const { round } = copy.installation;
  if (known.pending > 0) {
    // The row keeps what was written here; the answer to its queued edit brings it up to date.
    copy.putRow({ ...known, base: stored, baseVersion: version, round });
    return;
  }
  const { deletedAt, refused: _refused, ...rest } = known;
  const tombstone = stored === null ? { deletedAt: deletedAt ?? nowMs } : {};
  copy.putRow({ ...rest, version, fields: stored, round, ...tombstone });
}

function fieldsOf({ deleted, stored }: Change): Fields | null {
  if (deleted || !stored) return null;
  const { id: _id, ...fields } = stored;
  return fields;
}

/** Whether a row is gone after the bootstrap `round`: the server did not name it, and nothing of it is to be sent. */
export function isGone(row: Row, round: number): boolean {
  return row.round < round && row.fields !== null && row.pending === 0 && !row.refused;
}

/** Whether the tombstone of a row is old enough to be forgotten. */
export function isForgotten(row: Row, nowMs: number): boolean {
  return row.fields === null && row.pending === 0 && (row.deletedAt ?? 0) < nowMs - TOMBSTONE_MS;
}

/** After a complete pull, entries that waited for it are sent again, and the next refusal is final. */
export function endDoubt(copy: Copy): void {
  for (const entry of copy.entries()) if (entry.doubt === 'asked') copy.putEntry({ ...entry, doubt: 'confirmed' });
}

/**
 * The entries that may be sent now, in order. An entry that waits holds up those after it that are about the same row
 * or name it, and no others. `waiting` are the rows that
 * entries before these wait for; it grows.
 */
export function due(entries: Entry[], nowMs: number, waiting = new Set<string>()): Entry[] {
  return entries.filter((entry) => {
    // A type is deleted after everything that was to be done with its events.
    const needsAll = entry.kind === 'deleteEventType' && waiting.size > 0;
    // A time further ahead than any wait was set by a clock that has been set back since.
    const isEarly = entry.notBefore > nowMs && entry.notBefore <= nowMs + LONGEST_WAIT_MS;
    const waits = isEarly || entry.doubt === 'asked' || needsAll || [entry.id, ...entry.names].some((id) => waiting.has(id));
    if (waits) waiting.add(entry.id);
    return !waits;
  });
}
