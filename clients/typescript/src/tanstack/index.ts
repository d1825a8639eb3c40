// Makes the options of collections of TanStack DB. A collection has the rows of this device. A write to it is durable
// before TanStack DB drops its optimistic state.

import type { CollectionConfig } from '@tanstack/db';

import type { EventChanges, EventTypeChanges, IdemEvent, IdemEventType, NewEvent, NewEventType } from '../api/entities.js';
import type { ChangedRow, Idem } from '../client.js';

type Options<T extends { id: string }> = CollectionConfig<T, string> & { id: string };

/** How many rows are read at once at the start. */
const READ_AT_ONCE = 500;

/** Options for a collection of all events of this device. */
export function eventCollectionOptions(idem: Idem): Options<IdemEvent> {
  return options(idem, 'idem-events', ({ event }) => event, {
    create: (row) => idem.events.create(row as NewEvent),
    update: (id, changes) => idem.events.update(id, changes as EventChanges),
    remove: (id) => idem.events.remove(id),
  });
}

/** Options for a collection of all event types of this device. */
export function eventTypeCollectionOptions(idem: Idem): Options<IdemEventType> {
  return options(idem, 'idem-event-types', ({ eventType }) => eventType, {
    create: (row) => idem.types.create(row as NewEventType),
    update: (id, changes) => idem.types.update(id, changes as EventTypeChanges),
    remove: (id) => idem.types.remove(id),
  });
}

interface Writes {
  create(row: object): Promise<unknown>;
  update(id: string, changes: object): Promise<unknown>;
  remove(id: string): Promise<unknown>;
}

function options<T extends IdemEvent | IdemEventType>(idem: Idem, id: string, rowOf: (row: ChangedRow) => T | null, writes: Writes): Options<T> {
  /** Brings rows into the collection as this device has them. */
  let show: (rows: ChangedRow[]) => void = () => {};

  const perform = async (mutations: readonly { key: any }[], write: (mutation: any) => Promise<unknown>) => {
    for (const mutation of mutations) await write(mutation);
    show(await idem.rows(mutations.map(({ key }) => String(key))));
  };

  return {
    id,
    getKey: (row) => row.id,
    sync: {
      rowUpdateMode: 'full',
      sync: ({ begin, write, commit, markReady }) => {
        const known = new Set<string>();
        let isOpen = true;
        show = (rows) => {
          if (!isOpen) return;
          begin();
          for (const row of rows) {
            const value = rowOf(row);
            if (value) write({ type: known.has(row.id) ? 'update' : 'insert', value });
            else if (known.has(row.id)) write({ type: 'delete', key: row.id });
            if (value) known.add(row.id);
            else known.delete(row.id);
          }
          commit();
        };
        const stop = idem.onRows((rows) => show(rows));
        const readAll = async () => {
          for (let after: string | null = null; isOpen;) {
            const rows: ChangedRow[] = await idem.scan(after, READ_AT_ONCE);
            show(rows);
            if (rows.length < READ_AT_ONCE) break;
            after = rows.at(-1)!.id;
          }
          markReady();
        };
        void readAll();
        return () => {
          isOpen = false;
          stop();
        };
      },
    },
    onInsert: ({ transaction }) => perform(transaction.mutations, ({ modified }) => writes.create(modified)),
    onUpdate: ({ transaction }) => perform(transaction.mutations, ({ key, changes }) => writes.update(key, changes)),
    onDelete: ({ transaction }) => perform(transaction.mutations, ({ key }) => writes.remove(key)),
  };
}
