// A client of Idem without a library: write locally, flush the outbox, pull what changed. `Copy` is what the
// device keeps; here it is in memory, in an app in a database, and each block marked so is one transaction of it.
import { editIdAfter, newId } from './id.mjs';

type Fields = Record<string, unknown>;
/** `base`: what the server has, as far as this device knows, while edits of the row are queued. */
export interface Row {
  entity: 'EVENT' | 'EVENT_TYPE'; version: number; fields: Fields; base?: Fields;
  /** The server has refused to create it: the next edit creates it. */
  unsent?: true;
}
/**
 * One entry of the outbox, as `applyMutations` takes it: one key, e.g. `createEvent`, and its input. `again`: a
 * deletion that the server may have lost, told once more. `removed`: the row, should its deletion be refused.
 */
export interface Queued { id: string; mutation: Record<string, Fields>; notBefore: number; again?: true; removed?: Row }
/** A deletion, by the version of the row that was deleted. */
export interface Removed { entity: Row['entity']; version: number; at: number }
export interface Problem { code: string; detail?: string; retryable: boolean; retryAfterMs?: number }
export interface Copy {
  rows: Map<string, Row>;
  /** What was deleted here or elsewhere, for 30 days: a server that lost it is told again. */
  removed: Map<string, Removed>;
  outbox: Queued[];
  /** The id of the last edit that was made here; those to come are greater. */
  lastEdit: string | null;
  cursor: string | null;
  /** What a bootstrap has named so far; null outside one. Kept with the cursor: a bootstrap may be cut. */
  named: Set<string> | null;
  /** What the server refused for good: to be shown. */
  refused: { queued: Queued; problem: Problem }[];
}
export interface Server {
  url: string;
  /** The same at every start of this installation. */
  clientId: string;
  /** `renew`: the last one was refused. */
  token(renew: boolean): Promise<string>;
  fetch: typeof fetch;
  backoffMs: number;
}
interface Result { outcome: string; version: number | null; differs: boolean; problem: Problem | null; event?: Fields; eventType?: Fields }
interface Change { entity: Row['entity']; entityId: string; version: number; deleted: boolean; event?: Fields; eventType?: Fields }
interface Page { changes: Change[]; cursor: string; hasMore: boolean; reset: 'CURSOR_INVALID' | 'EPOCH_CHANGED' | null }

const EVENT = 'event { id eventTypeId timestamp notes }';
const TYPE = 'eventType { id name color }';
const FLUSH = `mutation Flush($input: ApplyMutationsInput!) { applyMutations(input: $input) { results {
  outcome version differs problem { code detail retryable retryAfterMs }
  ... on EventResult { ${EVENT} } ... on EventTypeResult { ${TYPE} } } } }`;
const PULL = `query Pull($after: Cursor) { changes(after: $after) {
  cursor hasMore reset changes { entity entityId version deleted ${EVENT} ${TYPE} } } }`;

export const emptyCopy = (): Copy => ({ rows: new Map(), removed: new Map(), outbox: [], lastEdit: null, cursor: null, named: new Set(), refused: [] });

const inputOf = (queued: Queued): Fields => Object.values(queued.mutation)[0]!;
const nextEdit = (copy: Copy): string => (copy.lastEdit = editIdAfter(copy.lastEdit));

/** 1. Writes locally; works without a network. The row and its outbox entry are one transaction. */
export function create(copy: Copy, entity: Row['entity'], fields: Fields, id = newId()): string {
  copy.rows.set(id, { entity, version: 1, fields });
  const kind = entity === 'EVENT' ? 'createEvent' : 'createEventType';
  copy.outbox.push({ id, mutation: { [kind]: { id, ...fields } }, notBefore: 0 });
  return id;
}

export function update(copy: Copy, id: string, patch: Fields): void {
  const row = copy.rows.get(id);
  if (!row) throw new Error(`no row ${id}`);
  if (row.unsent) {
    copy.rows.delete(id);
    create(copy, row.entity, { ...row.fields, ...patch }, id);
    return;
  }
  row.base ??= row.fields;
  row.fields = { ...row.fields, ...patch };
  const kind = row.entity === 'EVENT' ? 'updateEvent' : 'updateEventType';
  // The version that the user saw, even when edits before this one are still queued: an own chain is no conflict.
  const input = { id, patch, expectedVersion: row.version, editId: nextEdit(copy) };
  copy.outbox.push({ id, mutation: { [kind]: input }, notBefore: 0 });
}

export function remove(copy: Copy, id: string): void {
  const row = copy.rows.get(id);
  if (!row) return;
  copy.rows.delete(id);
  copy.removed.set(id, { entity: row.entity, version: row.version, at: Date.now() });
  copy.outbox.push({ ...deletion(copy, id, row), removed: row });
}

function deletion(copy: Copy, id: string, { entity, version }: { entity: Row['entity']; version: number }): Queued {
  const kind = entity === 'EVENT' ? 'deleteEvent' : 'deleteEventType';
  return { id, mutation: { [kind]: { id, expectedVersion: version, editId: nextEdit(copy) } }, notBefore: 0 };
}

/** The whole loop, once: call it at start, after a write, when the network is back, and when the feed stirs. */
export async function sync(copy: Copy, server: Server): Promise<void> {
  await flush(copy, server);
  await pull(copy, server);
}

/** 2. Sends what is due, in order; one flush at a time. */
export async function flush(copy: Copy, server: Server, size = 500): Promise<void> {
  for (;;) {
    const batch = due(copy).slice(0, size);
    if (batch.length === 0) return;
    const input = { clientId: server.clientId, mutations: batch.map((queued) => queued.mutation) };
    const answer = await send(server, FLUSH, { input });
    const refusal = answer.errors?.[0];
    if (!refusal) {
      batch.forEach((queued, index) => settle(copy, queued, answer.data.applyMutations.results[index]));
    } else if (!['BAD_USER_INPUT', 'LIMIT_EXCEEDED', 'PAYLOAD_TOO_LARGE'].includes(refusal.extensions.code)) {
      throw new Error(refusal.message);
    } else if (batch.length > 1) {
      // 4. Too many bytes, or one of a shape that the server does not know: find it, the others go through.
      await flush(copy, server, Math.ceil(batch.length / 2));
    } else {
      drop(copy, batch[0]!, refusal.extensions.problem);
    }
  }
}

/** What may be sent. An entry that waits holds up those after it that are about the same thing, or name it. */
function due(copy: Copy): Queued[] {
  const waiting = new Set<unknown>();
  return copy.outbox.filter((queued) => {
    const { eventTypeId, patch } = inputOf(queued);
    const named = [queued.id, eventTypeId, (patch as Fields | undefined)?.eventTypeId];
    // A type is deleted after all that was to be done with its events.
    const needsAll = 'deleteEventType' in queued.mutation && waiting.size > 0;
    const waits = queued.notBefore > Date.now() || needsAll || named.some((id) => waiting.has(id));
    if (waits) waiting.add(queued.id);
    return !waits;
  });
}

/** 3. Takes the answer to one entry. In one transaction. */
function settle(copy: Copy, queued: Queued, { outcome, version, differs, problem, ...found }: Result): void {
  const stored = found.event ?? found.eventType;
  const row = copy.rows.get(queued.id);
  const input = inputOf(queued);
  const isLast = copy.outbox.findLast((other) => other.id === queued.id) === queued;
  const done = () => { copy.outbox = copy.outbox.filter((other) => other !== queued); };
  switch (outcome) {
    case 'CREATED': case 'UPDATED': case 'UNCHANGED': case 'DUPLICATE':
      if (differs && row && version! < row.version) {
        // The server has lost edits that it had acknowledged: they are made once more, on what it has.
        const kind = row.entity === 'EVENT' ? 'updateEvent' : 'updateEventType';
        row.version = version!;
        queued.mutation = { [kind]: { id: queued.id, patch: row.fields, expectedVersion: version, editId: nextEdit(copy) } };
        return;
      }
      if (outcome === 'UNCHANGED' && input.expectedVersion !== version && isLast && !shows(stored, input)) {
        // Taken for an old one: it is made once more, on what is stored.
        Object.assign(input, { expectedVersion: version, editId: nextEdit(copy) });
        return;
      }
      done();
      if (stored) take(copy, queued.id, stored, version!);
      return;
    case 'DELETED':
      copy.rows.delete(queued.id);
      if ('deleteEvent' in queued.mutation || 'deleteEventType' in queued.mutation) return done();
      // What was written here, and another device's deletion has overtaken, is shown.
      for (const other of copy.outbox.filter(({ id }) => id === queued.id)) drop(copy, other, { code: 'DELETED', retryable: false });
      return;
    case 'CONFLICT': {
      // Here the later edit wins field by field. Any other merge does, if it is sent on this version.
      // Somebody has brought back what was deleted.
      if (queued.again && version! > (input.expectedVersion as number)) return done();
      if (row && stored) {
        const base = without(stored, 'id');
        Object.assign(row, { version, base, fields: { ...base, ...(input.patch as Fields) } });
      }
      input.expectedVersion = version;
      return;
    }
    default:
      if (queued.again) done();
      else if (problem!.code === 'ID_IN_FUTURE' && !problem!.retryable) makeAnew(copy, queued);
      // What it needs was made anew just now: it waits with that.
      else if (problem!.code === 'DEPENDENCY_REJECTED' && !due(copy).includes(queued)) return;
      else if (problem!.retryable) queued.notBefore = Date.now() + (problem!.retryAfterMs ?? 1000);
      else drop(copy, queued, problem!);
  }
}

/** Stores what the server has. Where it knows the thing by another id, that is its id from now on. */
function take(copy: Copy, sentId: string, stored: Fields, version: number): void {
  const id = stored.id as string;
  const row = copy.rows.get(sentId);
  if (!row) return;
  if (id !== sentId) {
    copy.rows.delete(sentId);
    copy.rows.set(id, row);
    for (const other of copy.rows.values()) if (other.fields.eventTypeId === sentId) other.fields.eventTypeId = id;
    // The old id inside a queued mutation stands: the server knows it as an alias.
    for (const other of copy.outbox) if (other.id === sentId) other.id = id;
  }
  row.version = version;
  const fields = without(stored, 'id');
  if (copy.outbox.some((other) => other.id === id)) {
    row.base = fields;
  } else {
    row.fields = fields;
    delete row.base;
  }
}

/** Whether the row that the server has is what an edit wants. Of a deleted one it tells nothing. */
function shows(stored: Fields | undefined, { patch }: Fields): boolean {
  if (!patch || !stored) return !patch && !stored;
  return Object.entries(patch as Fields).every(([name, value]) => stored[name] === value);
}

/** The clock was more than a day ahead when this id was made: the thing gets another, and so does all that names it. */
function makeAnew(copy: Copy, { id: old }: Queued): void {
  const id = newId();
  const row = copy.rows.get(old);
  if (row) copy.rows.set(id, row);
  copy.rows.delete(old);
  for (const other of copy.rows.values()) if (other.fields.eventTypeId === old) other.fields.eventTypeId = id;
  for (const queued of copy.outbox) {
    const input = inputOf(queued);
    for (const named of [input, input.patch as Fields | undefined]) {
      for (const name of ['id', 'eventTypeId']) if (named?.[name] === old) named[name] = id;
    }
    if (queued.id !== old) continue;
    // If the clock is still wrong, it is asked again in a while.
    Object.assign(queued, { id, notBefore: Date.now() + 1000 });
  }
}

/** Keeps what the server refused, and shows the row as the server has it, with the edits that are still to come. */
function drop(copy: Copy, queued: Queued, problem: Problem): void {
  copy.outbox = copy.outbox.filter((other) => other !== queued);
  copy.refused.push({ queued, problem });
  if (queued.removed) {
    copy.rows.set(queued.id, queued.removed);
    copy.removed.delete(queued.id);
  }
  const row = copy.rows.get(queued.id);
  if (row && ('createEvent' in queued.mutation || 'createEventType' in queued.mutation)) row.unsent = true;
  if (!row?.base) return;
  const queuedFor = copy.outbox.filter(({ id }) => id === queued.id);
  row.fields = Object.assign({}, row.base, ...queuedFor.map((other) => inputOf(other).patch));
  if (queuedFor.length === 0) delete row.base;
}

function without(fields: Fields, name: string): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([key]) => key !== name));
}

/** 5. Brings what changed since the cursor. */
export async function pull(copy: Copy, server: Server): Promise<void> {
  for (;;) {
    const { data, errors } = await send(server, PULL, { after: copy.cursor });
    if (errors) throw new Error(errors[0].message);
    const page: Page = data.changes;
    // 6. The server may have lost something, by a failover or a restored backup: it comes back from here. Types
    // first, for events name them; deletions last, events before the types that they name.
    if (page.reset === 'EPOCH_CHANGED') {
      const typesFirst = (a: { entity: string }, b: { entity: string }) => b.entity.localeCompare(a.entity);
      const creates = [...copy.rows].filter(([, { unsent }]) => !unsent).sort(([, a], [, b]) => typesFirst(a, b)).map(([id, { entity, fields }]) =>
        ({ id, mutation: { [entity === 'EVENT' ? 'createEvent' : 'createEventType']: { id, ...fields } }, notBefore: 0 }));
      const removals = [...copy.removed].sort(([, a], [, b]) => typesFirst(b, a))
        .map(([id, removed]) => ({ ...deletion(copy, id, removed), again: true as const }));
      copy.outbox = [...creates, ...copy.outbox, ...removals];
      await flush(copy, server);
    }
    if (page.reset) copy.named = new Set();
    // From here to the end of the round: one transaction.
    const edited = new Set(copy.outbox.map(({ id }) => id));
    for (const change of page.changes) {
      copy.named?.add(change.entityId);
      const own = copy.rows.get(change.entityId);
      if (edited.has(change.entityId)) {
        // The row keeps what was written here; the answer to the queued edit brings it up to date.
        if (own && !change.deleted) own.base = without((change.event ?? change.eventType)!, 'id');
        continue;
      }
      if (change.deleted) {
        copy.rows.delete(change.entityId);
        copy.removed.set(change.entityId, { entity: change.entity, version: change.version - 1, at: Date.now() });
      } else {
        copy.removed.delete(change.entityId);
        const fields = without((change.event ?? change.eventType)!, 'id');
        copy.rows.set(change.entityId, { entity: change.entity, version: change.version, fields });
      }
    }
    copy.cursor = page.cursor;
    if (page.hasMore) continue;
    // What was refused stays until it is mended or given up.
    if (copy.named) for (const [id, { unsent }] of copy.rows) if (!copy.named.has(id) && !edited.has(id) && !unsent) copy.rows.delete(id);
    copy.named = null;
    for (const [id, { at }] of copy.removed) if (at < Date.now() - 30 * 86_400_000) copy.removed.delete(id);
    return;
  }
}

/** 4. No answer, 5xx, 429: the same again, which is safe. 401: a new token, once. */
async function send(server: Server, query: string, variables: Fields): Promise<any> {
  let renewed = false;
  for (let attempt = 0; ; attempt += 1) {
    const headers = { authorization: `Bearer ${await server.token(renewed)}`, 'content-type': 'application/json' };
    const body = JSON.stringify({ query, variables });
    const response = await server.fetch(`${server.url}/graphql`, { method: 'POST', headers, body }).catch(() => null);
    if (response?.status === 401 && !renewed) {
      renewed = true;
      continue;
    }
    if (response && response.status < 500 && response.status !== 429) {
      const answer = await response.json().catch(() => null);
      if (answer) return answer;
    }
    const asked = 1000 * Number(response?.headers.get('retry-after') ?? 0);
    const backoff = server.backoffMs * 2 ** Math.min(attempt, 6) * (0.5 + Math.random());
    await new Promise((resolve) => setTimeout(resolve, Math.max(asked, backoff)));
  }
}
