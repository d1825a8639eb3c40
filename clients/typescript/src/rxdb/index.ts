// Replicates a collection of RxDB with the kit, by RxDB's own custom replication. The kit sends, receives, merges and
// keeps what is refused; the collection is a second copy of its rows. So a push never conflicts with the server: it is a
// local write of the kit.

import type { RxCollection, RxReplicationPullStreamItem, WithDeleted } from 'rxdb';
import { type RxReplicationState, replicateRxCollection } from 'rxdb/plugins/replication';
import { Subject } from 'rxjs';

import { reportUncaught } from '../callbacks.js';
import type { ChangedRow, Idem } from '../client.js';
import type { Fields } from '../core/model.js';
import { LocalError } from '../core/write.js';

/** The position of a pull. RxDB stores it, but each session starts from the first row: rows may have changed in between. */
export interface RxdbCheckpoint {
  session: string;
  after: string | null;
}

export interface RxdbOptions<Doc> {
  collection: RxCollection<Doc>;
  idem: Idem;
  /** Which rows the collection has. */
  entity: 'EVENT' | 'EVENT_TYPE';
  /** Names this replication in RxDB. */
  replicationIdentifier?: string;
  /** How many rows RxDB stores at once. */
  batchSize?: number;
}

type AnyDoc = Record<string, any>;

const text = (maxLength: number) => ({ type: 'string', maxLength }) as const;
const maybeText = { type: ['string', 'null'] } as const;

/** A schema for a collection of events. An app may leave out fields and add indexes. */
export const eventSchema = {
  version: 0, type: 'object', primaryKey: 'id',
  required: ['id', 'eventTypeId', 'timestamp'],
  properties: {
    id: text(36), eventTypeId: text(36), timestamp: text(24), endDate: maybeText, isAllDay: { type: 'boolean' }, timeZone: maybeText, notes: maybeText,
    sourceType: text(32), externalId: maybeText, location: { type: ['object', 'null'] }, properties: { type: 'object' }, importJobId: maybeText,
    createdAt: text(24), updatedAt: text(24), version: { type: 'integer' }, sync: text(8),
  },
} as const;

/** A schema for a collection of event types. */
export const eventTypeSchema = {
  version: 0, type: 'object', primaryKey: 'id', required: ['id', 'name'],
  properties: {
    id: text(36), name: text(100), color: maybeText, icon: maybeText, createdAt: text(24), updatedAt: text(24), version: { type: 'integer' }, sync: text(8),
  },
} as const;

/** The kit has merged already: what it shows wins over what the collection has. */
export const conflictHandler = {
  isEqual: (a: AnyDoc, b: AnyDoc) => isSame(a, b),
  resolve: async ({ realMasterState }: { realMasterState: AnyDoc }) => realMasterState,
};

/**
 * Starts the replication. Writes to the collection are queued in the kit when RxDB pushes them; what the server refuses
 * is in `idem.refused`. Give the collection the `conflictHandler` of this module.
 */
export function replicateIdem<Doc>({ collection, idem, entity, replicationIdentifier = `idem-${entity}`, batchSize = 200 }: RxdbOptions<Doc>): RxReplicationState<Doc, RxdbCheckpoint> {
  const names = Object.keys(collection.schema.jsonSchema.properties).filter((name) => !name.startsWith('_'));
  const toDoc = ({ id, event, eventType }: ChangedRow): WithDeleted<Doc> => {
    const row = (entity === 'EVENT' ? event : eventType) as AnyDoc | null;
    const kept = row ? Object.fromEntries(names.filter((name) => name in row).map((name) => [name, row[name]])) : { id };
    return { ...kept, _deleted: row === null } as WithDeleted<Doc>;
  };

  const session = crypto.randomUUID();
  const stream = new Subject<RxReplicationPullStreamItem<Doc, RxdbCheckpoint>>();
  let pulledTo: string | null = null;
  /** Rows that RxDB was given, or gave, since it was idle last: it may have passed over a change of them. */
  const unsure = new Set<string>();

  const emit = (documents: WithDeleted<Doc>[]) => {
    if (documents.length > 0) stream.next({ documents, checkpoint: { session, after: pulledTo } });
  };
  const stopFollowing = idem.onRows((rows) => {
    const own = rows.filter((row) => row.entity === entity);
    for (const { id } of own) unsure.add(id);
    emit(own.map(toDoc));
  });

  const state = replicateRxCollection<Doc, RxdbCheckpoint>({
    collection,
    replicationIdentifier,
    live: true,
    autoStart: true,
    retryTime: 1_000,
    pull: {
      batchSize,
      stream$: stream,
      handler: async (last) => {
        const documents: WithDeleted<Doc>[] = [];
        for (let after = last?.session === session ? last.after : null; ;) {
          const asked = batchSize - documents.length;
          const rows = await idem.scan(after, asked);
          documents.push(...rows.filter((row) => row.entity === entity).map(toDoc));
          for (const { id } of rows) unsure.add(id);
          after = rows.at(-1)?.id ?? after;
          pulledTo = after;
          if (rows.length < asked || documents.length === batchSize) return { documents, checkpoint: { session, after } };
        }
      },
    },
    push: {
      batchSize,
      // It never conflicts: what the kit has made of it comes with the comparison below.
      handler: async (pushed) => {
        for (const { newDocumentState, assumedMasterState } of pushed) {
          const now = newDocumentState as AnyDoc;
          unsure.add(now.id);
          await write(idem, entity, now, assumedMasterState as AnyDoc | undefined);
        }
        return [];
      },
    },
  });

  /** While RxDB is idle, compares the rows that it may have passed over, and gives it those that differ once more. */
  const compare = async () => {
    const ids = [...unsure];
    if (ids.length === 0) return;
    unsure.clear();
    const [docs, rows] = await Promise.all([collection.findByIds(ids).exec(), idem.rows(ids)]);
    const differing = rows.filter((row) => row.entity === entity).map((row) => toDoc(row) as AnyDoc).filter((master) => {
      const doc = docs.get(master.id)?.toJSON() as AnyDoc | undefined;
      return doc ? !isSame(master, { ...doc, _deleted: false }) : !master._deleted;
    });
    for (const { id } of differing) unsure.add(id);
    emit(differing as WithDeleted<Doc>[]);
  };
  const idle = state.active$.subscribe((isActive) => {
    if (!isActive) void compare().catch(() => {});
  });
  const cancel = state.cancel.bind(state);
  state.cancel = () => {
    stopFollowing();
    idle.unsubscribe();
    return cancel();
  };
  return state;
}

/** Queues what was changed in the collection. A row that is gone meanwhile stays gone: RxDB is told by the conflict. */
async function write(idem: Idem, entity: 'EVENT' | 'EVENT_TYPE', now: AnyDoc, before: AnyDoc | undefined): Promise<void> {
  const rows = (entity === 'EVENT' ? idem.events : idem.types) as { get(id: string): Promise<object | null>; create(row: any): Promise<unknown>; update(id: string, changes: any): Promise<unknown>; remove(id: string): Promise<void> };
  const known = (await rows.get(now.id)) as AnyDoc | null;
  try {
    if (now._deleted) return known ? await rows.remove(now.id) : undefined;
    const isNew = !before || before._deleted;
    if (isNew && !known) return void (await create(idem, entity, now));
    const changes = changed(fieldsOf(now), fieldsOf(isNew ? known! : before));
    if (Object.keys(changes).length > 0) await rows.update(now.id, changes);
  } catch (error) {
    // One bad document must not hold up the others: the comparison gives RxDB what there is.
    if (error instanceof TypeError) reportUncaught(error);
    else if (!(error instanceof LocalError)) throw error;
  }
}

/** Creates a row, or brings back an event that was deleted on this device. */
async function create(idem: Idem, entity: 'EVENT' | 'EVENT_TYPE', now: AnyDoc): Promise<void> {
  const row = { ...fieldsOf(now), id: now.id } as any;
  const [known] = await idem.rows([now.id]);
  if (entity === 'EVENT_TYPE') await idem.types.create(row);
  else if (known!.entity) await idem.events.restore(row);
  else await idem.events.create(row);
}

/** Fields that the kit or the server sets. */
const DERIVED = new Set(['id', 'version', 'sync', 'createdAt', 'updatedAt', 'importJobId']);

const fieldsOf = (doc: AnyDoc): Fields => Object.fromEntries(Object.entries(doc).filter(([name]) => !DERIVED.has(name) && !name.startsWith('_')));

const changed = (now: Fields, before: Fields): Fields =>
  Object.fromEntries(Object.entries(now).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name])));

/** Whether two documents are the same to RxDB. Fields that one of them does not have do not count. */
function isSame(a: AnyDoc, b: AnyDoc): boolean {
  if (Boolean(a._deleted) !== Boolean(b._deleted)) return false;
  if (a._deleted) return true;
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((name) => !name.startsWith('_'));
  return names.every((name) => stable(a[name] ?? null) === stable(b[name] ?? null));
}

const stable = (value: unknown): string => JSON.stringify(value, (_key, inner) =>
  inner && typeof inner === 'object' && !Array.isArray(inner) ? Object.fromEntries(Object.entries(inner).sort(([x], [y]) => (x < y ? -1 : 1))) : inner);
