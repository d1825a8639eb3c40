// Live queries: lists of local rows that change with them. A change of one row updates each list in memory; only a list
// that lost a row, and is not complete, is read again.

import type { Row } from '../core/model.js';
import type { ReadTransaction, Storage } from '../storage/storage.js';
import { callApp } from '../callbacks.js';
import { type IdemEvent, type IdemEventType, type Instant, eventOf, eventTypeOf, instantText } from './entities.js';

export interface EventQuery {
  /** Events at or after this instant. */
  from?: Instant;
  /** Events before this instant. */
  to?: Instant;
  eventTypeIds?: string[];
  sourceTypes?: string[];
  /** A part of the notes; upper and lower case are the same. */
  search?: string;
  /** How many events the list has at most. If absent: 200 for a live list, and all for `list`. */
  limit?: number;
}

export interface LiveList<T> {
  /** The rows as they are now; undefined until they were read for the first time. */
  readonly rows: readonly T[] | undefined;
  /** Whether there are events after the last one of the list. */
  readonly hasMore: boolean;
  /** Makes the list longer by `count` events. */
  loadMore(count?: number): void;
  close(): void;
}

const LIMIT = 200;
const READ_AT_ONCE = 500;
/** After more changes than this at once a list is read again. */
const UPDATED_MAX = 200;

interface List {
  reload(tx: ReadTransaction): Promise<void>;
  /** Takes rows as they are now; returns whether the list must be read again. */
  update(rows: Map<string, Row | undefined>): boolean;
}

export class LiveQueries {
  readonly #lists = new Set<List>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(private readonly storage: Storage, private readonly onError: (error: unknown) => void) {}

  events(query: EventQuery, onRows: (rows: readonly IdemEvent[]) => void): LiveList<IdemEvent> {
    return this.#open(new EventList(query, onRows));
  }

  eventTypes(onRows: (rows: readonly IdemEventType[]) => void): LiveList<IdemEventType> {
    return this.#open(new TypeList(onRows));
  }

  async listEvents(query: EventQuery): Promise<readonly IdemEvent[]> {
    const list = new EventList({ limit: Infinity, ...query }, () => {});
    await this.storage.read((tx) => list.reload(tx));
    return list.rows!;
  }

  async listEventTypes(): Promise<readonly IdemEventType[]> {
    const list = new TypeList(() => {});
    await this.storage.read((tx) => list.reload(tx));
    return list.rows!;
  }

  /** Rows have changed. */
  changed(rowIds: string[]): void {
    if (this.#lists.size === 0 || rowIds.length === 0) return;
    this.#next(async (tx) => {
      const lists = [...this.#lists];
      if (rowIds.length > UPDATED_MAX) {
        for (const list of lists) await list.reload(tx);
        return;
      }
      const found = new Map((await tx.rows(rowIds)).map((row) => [row.id, row]));
      const rows = new Map(rowIds.map((id) => [id, found.get(id)]));
      for (const list of lists) if (list.update(rows)) await list.reload(tx);
    });
  }

  #open<T>(list: List & { rows: readonly T[] | undefined; hasMore: boolean; grow(count: number): void; isClosed: boolean }): LiveList<T> {
    this.#lists.add(list);
    const reload = () => this.#next((tx) => list.reload(tx));
    reload();
    return {
      get rows() { return list.rows; },
      get hasMore() { return list.hasMore; },
      loadMore: (count = LIMIT) => {
        list.grow(count);
        reload();
      },
      close: () => {
        list.isClosed = true;
        this.#lists.delete(list);
      },
    };
  }

  /** Reads one after the other, so that a list never goes back to an older state. */
  #next(work: (tx: ReadTransaction) => Promise<void>): void {
    this.#turn = this.#turn.then(() => this.storage.read(work)).catch(this.onError);
  }
}

class EventList implements List {
  rows: readonly IdemEvent[] | undefined;
  hasMore = false;
  isClosed = false;
  #limit: number;
  readonly #matches: (event: IdemEvent) => boolean;
  readonly #range: { from?: string; to?: string; eventTypeId?: string };

  constructor({ from, to, eventTypeIds, sourceTypes, search, limit = LIMIT }: EventQuery, private readonly onRows: (rows: readonly IdemEvent[]) => void) {
    this.#limit = limit;
    this.#range = {
      ...(from === undefined ? {} : { from: instantText(from, false, 'from') }),
      ...(to === undefined ? {} : { to: instantText(to, false, 'to') }),
      ...(eventTypeIds?.length === 1 ? { eventTypeId: eventTypeIds[0]! } : {}),
    };
    const [types, sources, wanted] = [eventTypeIds && new Set(eventTypeIds), sourceTypes && new Set(sourceTypes), search && fold(search)];
    const { from: first, to: end } = this.#range;
    this.#matches = (event) =>
      (first === undefined || event.timestamp >= first) && (end === undefined || event.timestamp < end)
      && (!types || types.has(event.eventTypeId)) && (!sources || sources.has(event.sourceType))
      && (!wanted || (event.notes !== null && fold(event.notes).includes(wanted)));
  }

  grow(count: number): void {
    this.#limit += count;
  }

  async reload(tx: ReadTransaction): Promise<void> {
    const known = new Map(this.rows?.map((event) => [event.id, event]));
    const found: IdemEvent[] = [];
    let after: { timestamp: string; id: string } | undefined;
    for (;;) {
      const wanted = Math.min(this.#limit + 1 - found.length, READ_AT_ONCE);
      const part = await tx.events({ ...this.#range, limit: wanted, ...(after ? { after } : {}) });
      for (const row of part) {
        const event = eventOf(row);
        if (event && this.#matches(event)) found.push(same(known.get(event.id), event));
      }
      const last = part.at(-1);
      if (!last || part.length < wanted || found.length > this.#limit) break;
      after = { timestamp: last.fields!.timestamp as string, id: last.id };
    }
    this.hasMore = found.length > this.#limit;
    this.#show(found.slice(0, this.#limit));
  }

  update(rows: Map<string, Row | undefined>): boolean {
    if (!this.rows) return false;
    const kept = this.rows.filter(({ id }) => !rows.has(id));
    const added = [...rows.values()].flatMap((row) => (row && eventOf(row)) ?? []).filter(this.#matches);
    const end = this.hasMore ? this.rows.at(-1) : undefined;
    // After the end of the list there may be others in between.
    const inside = end ? added.filter((event) => newestFirst(event, end) <= 0) : added;
    if (this.hasMore && kept.length + inside.length < this.#limit) return true;
    if (kept.length === this.rows.length && inside.length === 0) return false;
    const merged = [...kept];
    for (const event of inside) merged.splice(placeOf(event, merged), 0, event);
    this.hasMore ||= merged.length > this.#limit;
    this.#show(merged.slice(0, this.#limit));
    return false;
  }

  #show(rows: readonly IdemEvent[]): void {
    const isSame = this.rows?.length === rows.length && rows.every((event, place) => event === this.rows![place]);
    if (isSame || this.isClosed) return;
    this.rows = rows;
    callApp(this.onRows, rows);
  }
}

class TypeList implements List {
  rows: readonly IdemEventType[] | undefined;
  readonly hasMore = false;
  isClosed = false;

  constructor(private readonly onRows: (rows: readonly IdemEventType[]) => void) {}

  grow(): void {}

  async reload(tx: ReadTransaction): Promise<void> {
    const types = (await tx.eventTypes()).flatMap((row) => eventTypeOf(row) ?? []);
    const rows = types.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.id < b.id ? -1 : 1));
    if (this.isClosed || JSON.stringify(rows) === JSON.stringify(this.rows)) return;
    this.rows = rows;
    callApp(this.onRows, rows);
  }

  update(rows: Map<string, Row | undefined>): boolean {
    const ids = new Set(this.rows?.map(({ id }) => id));
    return [...rows].some(([id, row]) => ids.has(id) || row?.entity === 'EVENT_TYPE');
  }
}

const same = (known: IdemEvent | undefined, event: IdemEvent) =>
  known && JSON.stringify(known) === JSON.stringify(event) ? known : event;

const newestFirst = (a: IdemEvent, b: IdemEvent) =>
  a.timestamp === b.timestamp ? (a.id < b.id ? 1 : a.id > b.id ? -1 : 0) : a.timestamp < b.timestamp ? 1 : -1;

/** Where an event belongs in a list, by bisection. */
function placeOf(event: IdemEvent, list: IdemEvent[]): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (newestFirst(list[middle]!, event) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Text without the difference of upper and lower case, as the server compares it (Unicode, section 3.13.5). */
const fold = (text: string) => text.normalize('NFD').toLowerCase().toUpperCase().toLowerCase().replaceAll('ς', 'σ').normalize('NFC');
