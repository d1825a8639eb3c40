// Reads the feed page by page, and does what a reset and the end of a bootstrap ask for.

import type { Page, Resend, Row } from '../core/model.js';
import { TOMBSTONE_MS, applyPage, endDoubt, isForgotten, isGone } from '../core/pull.js';
import { type ResentWrite, nextStep, resentWrite, settleResent } from '../core/resend.js';
import { type Endpoint, RequestError } from '../transport/http.js';
import type { Device } from './device.js';
import { applyMutations, readPage } from './documents.js';

const SCANNED = 500;
/** How many rows are sent again at once: few enough for the largest request, whatever they contain. */
const RESENT = 50;

/**
 * Reads one page, and stores it with its cursor. Returns null if the cursor was reset meanwhile: then the page is not
 * what comes next.
 */
export async function pullPage(device: Device, endpoint: Endpoint, term: number, signal: AbortSignal): Promise<Page | null> {
  const { cursor } = await device.storage.read((tx) => device.installation(tx));
  const sentAt = device.now();
  const page = await readPage(endpoint, cursor, signal);
  if (!Number.isNaN(page.serverTime)) device.serverOffsetMs = page.serverTime - (sentAt + device.now()) / 2;
  const rows = page.changes.map(({ entityId }) => entityId);
  return device.commit({ rows }, (copy, context) => {
    if (copy.installation.cursor !== cursor) return null;
    applyPage(copy, page, context);
    return page;
  }, { term, durability: 'relaxed' });
}

/** Sends all rows and deletions again, if a reset has asked for it. It continues where an earlier leader stopped. */
export async function resendAll(device: Device, endpoint: Endpoint, term: number, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const { resend } = await device.storage.read((tx) => device.installation(tx));
    if (!resend) return;
    await resendPart(device, endpoint, term, resend, signal);
  }
}

async function resendPart(device: Device, endpoint: Endpoint, term: number, resend: Resend, signal: AbortSignal): Promise<void> {
  const rows = await device.storage.read((tx) => tx.rowsAfter(resend.after, RESENT));
  const after = rows.length < RESENT ? null : rows.at(-1)!.id;
  const ids = rows.map(({ id }) => id);
  // The ids of resent deletions are stored before they are sent: edit ids ascend whatever happens.
  const { clientId, writes } = await device.commit({ rows: ids }, (copy, context) => ({
    clientId: copy.installation.clientId,
    writes: rows.flatMap(({ id }) => {
      const row = copy.row(id);
      return (row && resentWrite(copy, row, resend.stage, context)) ?? [];
    }),
  }), { term });
  const results = writes.length > 0 ? await applyMutations(endpoint, clientId, writes, signal) : [];
  const waits = results.find(({ problem }) => problem?.retryable);
  if (waits) throw new RequestError('busy', 'a row that is sent again has to wait');
  const foundIds = results.flatMap(({ stored }) => (stored ? [stored.id] : []));
  const renamedTypes = writes.filter(isRenamedType(results)).map(({ row }) => row.id);
  await device.commit({ rows: [...ids, ...foundIds], entriesAbout: [...ids, ...foundIds], refusals: renamedTypes.length > 0, renamedTypes }, (copy, context) => {
    writes.forEach((write, index) => settleResent(copy, write, results[index]!, context));
    copy.installation.resend = nextStep(resend, after);
  }, { term });
}

const isRenamedType = (results: { stored: { id: string } | null }[]) => ({ row }: ResentWrite, index: number) => {
  const { stored } = results[index]!;
  return row.entity === 'EVENT_TYPE' && stored !== null && stored.id !== row.id;
};

/**
 * After the last page, which had this cursor: forgets what a bootstrap did not name and old tombstones, and lets
 * doubtful entries go on. Returns false if the cursor was reset meanwhile: then there is more to pull.
 */
export async function completePull(device: Device, term: number, cursor: string): Promise<boolean> {
  const { isBootstrapping, round } = await device.storage.read((tx) => device.installation(tx));
  if (isBootstrapping) await forget(device, term, cursor, (row) => isGone(row, round));
  const nowMs = device.now();
  const old = await device.storage.read((tx) => tx.tombstonesBefore(nowMs - TOMBSTONE_MS, SCANNED));
  return device.commit({ rows: old.map(({ id }) => id), entriesInDoubt: true }, (copy, context) => {
    if (copy.installation.cursor !== cursor) return false;
    for (const row of copy.rows()) if (isForgotten(row, context.nowMs)) copy.removeRow(row.id);
    endDoubt(copy);
    copy.installation.isBootstrapping = false;
    copy.installation.lastSyncedAt = context.nowMs;
    return true;
  }, { term, durability: 'relaxed' });
}

async function forget(device: Device, term: number, cursor: string, isToForget: (row: Row) => boolean): Promise<void> {
  for (let after: string | null = null; ;) {
    const rows: Row[] = await device.storage.read((tx) => tx.rowsAfter(after, SCANNED));
    const ids = rows.filter(isToForget).map(({ id }) => id);
    // They are looked at once more in the transaction: a write may have come between.
    if (ids.length > 0) {
      await device.commit({ rows: ids }, (copy, context) => {
        if (copy.installation.cursor !== cursor) return;
        for (const row of copy.rows()) if (isToForget(row)) copy.forgetRow(row, context.nowMs);
      }, { term, durability: 'relaxed' });
    }
    if (rows.length < SCANNED) return;
    after = rows.at(-1)!.id;
  }
}
