// What an app calls to read and write events and event types. Each write is durable before its promise resolves.

import type { Copy } from '../core/copy.js';
import type { Context, Row } from '../core/model.js';
import { create, remove, restore, update } from '../core/write.js';
import type { Device } from '../sync/device.js';
import {
  type EventChanges, type EventTypeChanges, type IdemEvent, type IdemEventType, type NewEvent, type NewEventType,
  eventFields, eventOf, eventTypeOf, idOf, typeFields,
} from './entities.js';
import type { EventQuery, LiveList, LiveQueries } from './live.js';

/** The most events that one transaction stores: a larger number would make the page wait. */
const STORED_AT_ONCE = 500;

export class Events {
  constructor(private readonly device: Device, private readonly queries: LiveQueries) {}

  /** Creates an event and returns it. Rejects with `TypeError` for an instant or an id that is none. */
  async create(event: NewEvent): Promise<IdemEvent> {
    const [created] = await this.createMany([event]);
    return created!;
  }

  /** Creates events in the order given. Each 500 are one transaction. */
  async createMany(events: NewEvent[]): Promise<IdemEvent[]> {
    const inputs = events.map((event) => {
      const { isAllDay = false } = event;
      return { id: idOf(event.id, this.device.newId), ...eventFields(event, isAllDay) };
    });
    const created: IdemEvent[] = [];
    for (let start = 0; start < inputs.length; start += STORED_AT_ONCE) {
      const part = inputs.slice(start, start + STORED_AT_ONCE);
      const rows = await commit(this.device, part.flatMap(named), (copy, context) => part.map((input) => create(copy, 'EVENT', input, context)));
      created.push(...rows.map((row) => eventOf(row)!));
    }
    return created;
  }

  /** Changes fields of an event and returns it. Rejects with `LocalError` if there is no such event. */
  async update(id: string, changes: EventChanges): Promise<IdemEvent> {
    const row = await commit(this.device, named({ ...changes, id }), (copy, context) => {
      const isAllDay = changes.isAllDay ?? copy.row(copy.currentId(id))?.fields?.isAllDay === true;
      return update(copy, 'EVENT', id, eventFields(changes, isAllDay), context);
    });
    return eventOf(row)!;
  }

  /** Deletes an event. */
  async remove(id: string): Promise<void> {
    await commit(this.device, [id], (copy, context) => remove(copy, 'EVENT', id, context));
  }

  /** Brings a deleted event back, with this content: what `remove` took away has none left. */
  async restore(event: IdemEvent | (NewEvent & { id: string })): Promise<IdemEvent> {
    const { id, isAllDay = false } = event;
    const fields = eventFields(event, isAllDay);
    const row = await commit(this.device, named(event), (copy, context) => restore(copy, { ...fields, id }, context));
    return eventOf(row)!;
  }

  async get(id: string): Promise<IdemEvent | null> {
    const row = await this.device.row(id);
    return row ? eventOf(row) : null;
  }

  /** A list of local events, newest first, that follows every change. `onRows` gets the list at first and after changes. */
  live(query: EventQuery, onRows: (events: readonly IdemEvent[]) => void = () => {}): LiveList<IdemEvent> {
    return this.queries.events(query, onRows);
  }

  /** The local events that a query finds now. */
  list(query: EventQuery = {}): Promise<readonly IdemEvent[]> {
    return this.queries.listEvents(query);
  }
}

export class EventTypes {
  constructor(private readonly device: Device, private readonly queries: LiveQueries) {}

  async create({ id: given, ...type }: NewEventType): Promise<IdemEventType> {
    const id = idOf(given, this.device.newId);
    const row = await commit(this.device, [id], (copy, context) => create(copy, 'EVENT_TYPE', { id, ...typeFields(type) }, context));
    return eventTypeOf(row)!;
  }

  async update(id: string, changes: EventTypeChanges): Promise<IdemEventType> {
    const row = await commit(this.device, [id], (copy, context) => update(copy, 'EVENT_TYPE', id, typeFields(changes), context));
    return eventTypeOf(row)!;
  }

  /** Deletes an event type. The server refuses that while there are events of it. */
  async remove(id: string): Promise<void> {
    await commit(this.device, [id], (copy, context) => remove(copy, 'EVENT_TYPE', id, context));
  }

  async get(id: string): Promise<IdemEventType | null> {
    const row = await this.device.row(id);
    return row ? eventTypeOf(row) : null;
  }

  /** The list of event types by name, which follows every change. */
  live(onRows: (types: readonly IdemEventType[]) => void = () => {}): LiveList<IdemEventType> {
    return this.queries.eventTypes(onRows);
  }

  list(): Promise<readonly IdemEventType[]> {
    return this.queries.listEventTypes();
  }
}

/** The ids that an input names. */
const named = ({ id, eventTypeId }: { id?: string; eventTypeId?: unknown }): string[] =>
  [id, eventTypeId].filter((name) => typeof name === 'string');

/** Runs a rule on these rows, with the entries about them and all refusals. */
function commit<T extends Row | Row[] | void>(device: Device, ids: string[], rule: (copy: Copy, context: Context) => T): Promise<T> {
  return device.commit({ rows: ids, entriesAbout: ids, refusals: true }, rule);
}
