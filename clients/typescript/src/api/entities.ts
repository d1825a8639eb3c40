// Events and event types as an app sees them, and what an app gives to write them.

import { isUuidV7 } from '../core/ids.js';
import type { Fields, Json, Row } from '../core/model.js';

export interface EventLocation {
  latitude: number;
  longitude: number;
  name: string | null;
}

/** `pending`: the server has not answered all writes of it yet. `refused`: the server refused to create it. */
export type SyncState = 'synced' | 'pending' | 'refused';

/** Something that happened. Instants are RFC 3339 texts in UTC with milliseconds. */
export interface IdemEvent {
  readonly id: string;
  readonly eventTypeId: string;
  readonly timestamp: string;
  readonly endDate: string | null;
  /** If true, `timestamp` and `endDate` are dates at 00:00 UTC, to be shown as the UTC date everywhere. */
  readonly isAllDay: boolean;
  readonly timeZone: string | null;
  readonly notes: string | null;
  readonly sourceType: string;
  readonly externalId: string | null;
  readonly location: EventLocation | null;
  readonly properties: { readonly [name: string]: Json };
  readonly importJobId: string | null;
  readonly createdAt: string;
  readonly updatedAt: string;
  /** The version that the server acknowledged last; 0 before that. */
  readonly version: number;
  readonly sync: SyncState;
}

export interface IdemEventType {
  readonly id: string;
  readonly name: string;
  readonly color: string | null;
  readonly icon: string | null;
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly version: number;
  readonly sync: SyncState;
}

/** A `Date`, or an RFC 3339 text with an offset. For an event of whole days: a `Date` of this device's zone, or `YYYY-MM-DD`. */
export type Instant = Date | string;

export interface NewEvent {
  /** A UUIDv7. The kit makes one if it is absent. */
  id?: string;
  eventTypeId: string;
  timestamp: Instant;
  endDate?: Instant | null;
  isAllDay?: boolean;
  timeZone?: string | null;
  notes?: string | null;
  sourceType?: string;
  externalId?: string | null;
  location?: { latitude: number; longitude: number; name?: string | null } | null;
  properties?: { [name: string]: Json };
}

/** Absent fields stay as they are; null clears. */
export type EventChanges = Partial<Omit<NewEvent, 'id' | 'sourceType' | 'externalId'>>;

export interface NewEventType {
  id?: string;
  name: string;
  color?: string | null;
  icon?: string | null;
}
export type EventTypeChanges = Partial<Omit<NewEventType, 'id'>>;

const syncOf = (row: Row): SyncState => (row.refused ? 'refused' : row.pending > 0 ? 'pending' : 'synced');

/** The event that a row shows; null if it is deleted. */
export function eventOf(row: Row): IdemEvent | null {
  return row.fields && row.entity === 'EVENT'
    ? ({ ...row.fields, id: row.id, version: row.version, sync: syncOf(row) } as unknown as IdemEvent)
    : null;
}

export function eventTypeOf(row: Row): IdemEventType | null {
  return row.fields && row.entity === 'EVENT_TYPE'
    ? ({ ...row.fields, id: row.id, version: row.version, sync: syncOf(row) } as unknown as IdemEventType)
    : null;
}

/** An instant as the server writes it. Throws `TypeError` for what is none. */
export function instantText(value: Instant, isAllDay: boolean, name: string): string {
  if (isAllDay) return `${value instanceof Date ? localDate(value) : String(value).slice(0, 10)}T00:00:00.000Z`;
  const at = new Date(value);
  const hasOffset = value instanceof Date || /[zZ]$|[+-]\d\d:\d\d$/.test(value);
  if (Number.isNaN(at.getTime()) || !hasOffset) throw new TypeError(`${name} must be a Date or an RFC 3339 text with an offset: ${String(value)}`);
  return at.toISOString();
}

function localDate(at: Date): string {
  const part = (value: number, length: number) => String(value).padStart(length, '0');
  return `${part(at.getFullYear(), 4)}-${part(at.getMonth() + 1, 2)}-${part(at.getDate(), 2)}`;
}

/** The fields of an event in the form that the server takes: an undefined field is absent. */
export function eventFields(given: EventChanges & Partial<NewEvent>, isAllDay: boolean): Fields {
  const { eventTypeId, timestamp, endDate, timeZone, notes, sourceType, externalId, location, properties } = given;
  // An event that the kit returned has more fields, which the server does not take.
  const fields: Fields = defined({ eventTypeId, isAllDay: given.isAllDay, timeZone, notes, sourceType, externalId, properties });
  if (timestamp !== undefined) fields.timestamp = instantText(timestamp, isAllDay, 'timestamp');
  if (endDate !== undefined) fields.endDate = endDate === null ? null : instantText(endDate, isAllDay, 'endDate');
  if (location !== undefined) fields.location = location === null ? null : { ...location, name: location.name ?? null };
  return fields;
}

export function typeFields({ name, color, icon }: EventTypeChanges): Fields {
  // The server trims and normalises names in the same way: the row does not change when it is acknowledged.
  return { ...defined({ color, icon }), ...(name === undefined ? {} : { name: name.trim().normalize('NFC') }) };
}

function defined(values: { [name: string]: unknown }): Fields {
  return structuredClone(Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))) as Fields;
}

/** The id that the app gave, in lower case, or a new one. */
export function idOf(given: string | undefined, newId: () => string): string {
  if (given === undefined) return newId();
  if (!isUuidV7(given)) throw new TypeError(`an id must be a UUIDv7: ${given}`);
  return given.toLowerCase();
}
