// Sends the outbox in order, one batch at a time, and takes the answers.

import type { Entry, Problem, Result } from '../core/model.js';
import { due } from '../core/pull.js';
import { refuse, settle, isFarAhead } from '../core/settle.js';
import { type Endpoint, RequestError } from '../transport/http.js';
import type { Device } from './device.js';
import { applyMutations } from './documents.js';

/** The server takes at most this many items and bytes in one request. */
const ITEMS_MAX = 500;
const BYTES_MAX = 3_500_000;
const SCANNED = 1_000;
const SHARE_MIN = 1 / 64;
const SPLIT_CODES = new Set(['BAD_USER_INPUT', 'LIMIT_EXCEEDED', 'PAYLOAD_TOO_LARGE']);

export interface Flushed {
  /** Whether something was sent. */
  hasSent: boolean;
  /** When the first entry that waits may be sent, in Unix milliseconds; null if none waits for a time. */
  nextAtMs: number | null;
}

/** Sends what is due until nothing is. Rejects with `RequestError`; what was sent until then is done. */
export async function flush(device: Device, endpoint: Endpoint, term: number, signal: AbortSignal): Promise<Flushed> {
  let hasSent = false;
  for (;;) {
    signal.throwIfAborted();
    const { batch, clientId, nextAtMs } = await nextBatch(device);
    if (batch.length === 0) return { hasSent, nextAtMs };
    try {
      await sendBatch(device, endpoint, term, clientId, batch, signal);
    } catch (error) {
      // A slow network may never bring a large request through: the next one is smaller.
      if (error instanceof RequestError && error.kind === 'offline') device.batchShare = Math.max(device.batchShare / 2, SHARE_MIN);
      throw error;
    }
    device.batchShare = Math.min(device.batchShare * 2, 1);
    hasSent = true;
  }
}

async function nextBatch(device: Device): Promise<{ batch: Entry[]; clientId: string; nextAtMs: number | null }> {
  const nowMs = device.now();
  return device.storage.read(async (tx) => {
    const { clientId } = await device.installation(tx);
    const waiting = new Set<string>();
    const found: Entry[] = [];
    const waits: number[] = [];
    for (let seq = 0; found.length < ITEMS_MAX;) {
      const part = await tx.entriesFrom(seq, SCANNED);
      found.push(...due(part, nowMs, waiting));
      waits.push(...part.map(({ notBefore }) => notBefore).filter((at) => at > nowMs));
      if (part.length < SCANNED) break;
      seq = part.at(-1)!.seq + 1;
    }
    return { batch: fitting(found, device.batchShare), clientId, nextAtMs: waits.length > 0 ? Math.min(...waits) : null };
  });
}

/** The first entries that fit into this share of the largest request; one at least. */
function fitting(entries: Entry[], share: number): Entry[] {
  const itemsMax = Math.ceil(ITEMS_MAX * share);
  let bytes = 0;
  const count = entries.slice(0, itemsMax).findIndex(({ input }) => {
    bytes += new TextEncoder().encode(JSON.stringify(input)).length + 40;
    return bytes > BYTES_MAX * share;
  });
  return entries.slice(0, count < 0 ? itemsMax : Math.max(count, 1));
}

/** Sends a batch. One that the server refuses as a whole is halved until the entry at fault is found. */
async function sendBatch(device: Device, endpoint: Endpoint, term: number, clientId: string, batch: Entry[], signal: AbortSignal): Promise<void> {
  try {
    const results = await applyMutations(endpoint, clientId, batch, signal);
    await settleBatch(device, term, batch, results);
  } catch (error) {
    const problem = error instanceof RequestError && error.kind === 'refused' && error.problem;
    if (!problem || !SPLIT_CODES.has(problem.code)) throw error;
    if (batch.length === 1) return refuseEntry(device, term, batch[0]!, problem);
    const half = Math.ceil(batch.length / 2);
    await sendBatch(device, endpoint, term, clientId, batch.slice(0, half), signal);
    const rest = await stillQueued(device, batch.slice(half));
    if (rest.length > 0) await sendBatch(device, endpoint, term, clientId, rest, signal);
  }
}

/** The entries of a batch as they are now: what the first half was answered may have changed them. */
async function stillQueued(device: Device, batch: Entry[]): Promise<Entry[]> {
  const wanted = new Set(batch.map(({ seq }) => seq));
  const last = batch.at(-1)!.seq;
  const queued: Entry[] = [];
  await device.storage.read(async (tx) => {
    for (let seq = 0; seq <= last;) {
      const part = await tx.entriesFrom(seq, SCANNED);
      queued.push(...part);
      if (part.length < SCANNED) return;
      seq = part.at(-1)!.seq + 1;
    }
  });
  // An entry may wait since the first half for something that is not in this batch.
  return due(queued, device.now()).filter(({ seq }) => wanted.has(seq));
}

async function settleBatch(device: Device, term: number, batch: Entry[], results: Result[]): Promise<void> {
  const foundIds = results.flatMap(({ stored }) => (stored ? [stored.id] : []));
  const ids = [...batch.flatMap(({ id, names }) => [id, ...names]), ...foundIds];
  const renamed = batch.filter((entry, index) => isRenamed(entry, results[index]!));
  const readSet = {
    rows: ids, entriesAbout: ids, refusals: renamed.length > 0,
    renamedTypes: renamed.filter(({ kind }) => kind === 'createEventType').map(({ id }) => id),
  };
  await device.commit(readSet, (copy, context) => batch.forEach((entry, index) => settle(copy, entry, results[index]!, context)), { term });
}

const isRenamed = ({ id }: Entry, { stored, problem }: Result) =>
  (stored !== null && stored.id !== id) || (problem?.code === 'ID_IN_FUTURE' && isFarAhead(problem));

async function refuseEntry(device: Device, term: number, entry: Entry, problem: Problem): Promise<void> {
  await device.commit({ rows: [entry.id], entriesAbout: [entry.id] }, (copy, context) => {
    const queued = copy.entry(entry.seq);
    if (queued) refuse(copy, queued, problem, context);
  }, { term });
}
