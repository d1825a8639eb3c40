// A storage in memory, for tests and for programs that keep nothing between starts.

import type { CopyChanges } from '../core/copy.js';
import type { Entry, Fields, Installation, Json, Refusal, Row } from '../core/model.js';
import type { EventRange, Storage, WriteTransaction } from './storage.js';

interface Data {
  rows: Map<string, Row>;
  entries: Map<number, Entry>;
  refusals: Map<number, Refusal>;
  values: Map<string, Json>;
  installation?: Installation;
}

const empty = (): Data => ({ rows: new Map(), entries: new Map(), refusals: new Map(), values: new Map() });
const compare = <T>(a: T, b: T) => (a < b ? -1 : a > b ? 1 : 0);

export function memoryStorage(): Storage {
  let data = empty();
  let last: Promise<unknown> = Promise.resolve();
  const transact = <T>(work: (tx: WriteTransaction) => Promise<T>): Promise<T> => {
    const run = async () => {
      const writes: (() => void)[] = [];
      const result = await work(transactionOn(data, writes));
      for (const write of writes) write();
      return result;
    };
    const turn = last.then(run, run);
    last = turn;
    return turn;
  };
  return {
    name: `memory ${crypto.randomUUID()}`,
    read: transact,
    write: transact,
    erase: async () => { await transact(async () => { data = empty(); }); },
    close: () => {},
  };
}

function transactionOn(data: Data, writes: (() => void)[]): WriteTransaction {
  const all = () => [...data.rows.values()];
  const shown = (isWanted: (fields: Fields) => boolean) => all().filter(({ fields }) => fields !== null && isWanted(fields));
  const inOrder = <T extends { seq: number }>(kept: Map<number, T>) => [...kept.values()].sort((a, b) => a.seq - b.seq);
  return {
    installation: async () => structuredClone(data.installation),
    rows: async (ids) => ids.flatMap((id) => structuredClone(data.rows.get(id)) ?? []),
    rowsOfType: async (eventTypeId) => structuredClone(shown((fields) => fields.eventTypeId === eventTypeId)),
    rowsAfter: async (id, limit) =>
      structuredClone(all().filter((row) => id === null || row.id > id).sort((a, b) => compare(a.id, b.id)).slice(0, limit)),
    events: async (range) => structuredClone(shown((fields) => 'timestamp' in fields).filter((row) => isIn(range, row)).sort(newestFirst).slice(0, range.limit)),
    eventTypes: async () => structuredClone(shown((fields) => 'name' in fields)),
    tombstonesBefore: async (atMs, limit) => structuredClone(all().filter((row) => (row.deletedAt ?? atMs) < atMs).slice(0, limit)),
    entriesFrom: async (seq, limit) => structuredClone(inOrder(data.entries).filter((entry) => entry.seq >= seq).slice(0, limit)),
    entriesAbout: async (ids) => {
      const wanted = new Set(ids);
      return structuredClone(inOrder(data.entries).filter(({ id }) => wanted.has(id)));
    },
    entriesNaming: async (eventTypeId) => structuredClone(inOrder(data.entries).filter(({ names }) => names.includes(eventTypeId))),
    entriesInDoubt: async () => structuredClone(inOrder(data.entries).filter(({ doubt }) => doubt === 'asked')),
    refusals: async () => structuredClone(inOrder(data.refusals)),
    value: async (key) => structuredClone(data.values.get(key)),
    putValue: async (key, value) => { writes.push(() => data.values.set(key, structuredClone(value))); },
    apply: async (changes) => { writes.push(() => apply(data, structuredClone(changes))); },
  };
}

function isIn({ eventTypeId, from, to, after }: EventRange, row: Row): boolean {
  const timestamp = row.fields!.timestamp as string;
  return (eventTypeId === undefined || row.fields!.eventTypeId === eventTypeId)
    && (from === undefined || timestamp >= from)
    && (to === undefined || timestamp < to)
    && (after === undefined || timestamp < after.timestamp || (timestamp === after.timestamp && row.id < after.id));
}

const newestFirst = (a: Row, b: Row) =>
  compare(b.fields!.timestamp as string, a.fields!.timestamp as string) || compare(b.id, a.id);

function apply(data: Data, changes: CopyChanges): void {
  for (const row of changes.rows) data.rows.set(row.id, row);
  for (const id of changes.removedRows) data.rows.delete(id);
  for (const entry of changes.entries) data.entries.set(entry.seq, entry);
  for (const seq of changes.removedEntries) data.entries.delete(seq);
  for (const refusal of changes.refusals) data.refusals.set(refusal.seq, refusal);
  for (const seq of changes.removedRefusals) data.refusals.delete(seq);
  data.installation = changes.installation;
}
