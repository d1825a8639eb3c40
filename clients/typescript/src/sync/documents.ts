// The GraphQL documents that sync sends, and the check of what comes back: anything that has not the expected shape is
// taken for an answer of somebody else, and asked for again.

import type { Change, Entry, Fields, Page, Problem, Result } from '../core/model.js';
import { type Endpoint, RequestError, send } from '../transport/http.js';

const EVENT = `event { id eventTypeId timestamp endDate isAllDay timeZone notes sourceType externalId
  location { latitude longitude name } properties importJobId createdAt updatedAt }`;
const TYPE = 'eventType { id name color icon createdAt updatedAt }';

const FLUSH = `mutation Flush($input: ApplyMutationsInput!) { applyMutations(input: $input) { results {
  outcome version differs problem { code detail retryable retryAfterMs errors { pointer code detail } }
  ... on EventResult { ${EVENT} } ... on EventTypeResult { ${TYPE} } } } }`;
const PULL = `query Pull($after: Cursor, $first: Int!) { changes(after: $after, first: $first) {
  cursor hasMore reset serverTime changes { entity entityId version deleted ${EVENT} ${TYPE} } } }`;
const COUNT = 'query Count { syncStatus { counts { live } } }';

/** How many entities a page of the feed may bring: few enough to be stored without a long task. */
export const PAGE_SIZE = 500;

type Stored = (Fields & { id: string }) | null;
interface FoundEntity { event?: Stored; eventType?: Stored }
type FoundResult = FoundEntity & { outcome: string; version: number | null; differs: boolean; problem: Problem | null };
type FoundChange = FoundEntity & Omit<Change, 'stored'>;
interface FoundPage { changes: FoundChange[]; cursor: string; hasMore: boolean; reset: Page['reset']; serverTime: string }

const storedOf = ({ event, eventType }: FoundEntity): Stored => event ?? eventType ?? null;

/** Sends writes in order and returns the results, one for each. */
export async function applyMutations(endpoint: Endpoint, clientId: string, writes: Pick<Entry, 'kind' | 'input'>[], signal?: AbortSignal): Promise<Result[]> {
  const mutations = writes.map(({ kind, input }) => ({ [kind]: input }));
  const data = await send<{ applyMutations?: { results?: FoundResult[] } }>(endpoint, FLUSH, { input: { clientId, mutations } }, signal);
  const results = data.applyMutations?.results;
  if (!Array.isArray(results) || results.length !== writes.length || results.some((result) => typeof result?.outcome !== 'string')) {
    throw new RequestError('foreign', 'the answer has not one result for each write');
  }
  return results.map((result) => {
    const { outcome, version = null, differs, problem } = result;
    return { outcome, version, differs: differs === true, problem: problem ?? null, stored: storedOf(result) };
  });
}

/** Reads the next page of the feed. */
export async function readPage(endpoint: Endpoint, after: string | null, signal?: AbortSignal): Promise<Page> {
  const data = await send<{ changes?: FoundPage }>(endpoint, PULL, { after, first: PAGE_SIZE }, signal);
  const page = data.changes;
  const isWhole = page && typeof page.cursor === 'string' && Array.isArray(page.changes)
    && page.changes.every((change) => typeof change?.entityId === 'string' && (change.deleted || storedOf(change) !== null));
  if (!isWhole) throw new RequestError('foreign', 'the answer is not a page of changes');
  const { cursor, hasMore, reset, serverTime } = page;
  const changes = page.changes.map((change) => {
    const { entity, entityId, version, deleted } = change;
    return { entity, entityId, version, deleted, stored: storedOf(change) };
  });
  return { changes, cursor, hasMore, reset: reset ?? null, serverTime: Date.parse(serverTime) };
}

/** How many entities a bootstrap will bring. */
export async function countEntities(endpoint: Endpoint, signal?: AbortSignal): Promise<number> {
  const data = await send<{ syncStatus: { counts: { live: number }[] } }>(endpoint, COUNT, {}, signal);
  return data.syncStatus.counts.reduce((total, { live }) => total + live, 0);
}
