// The content of rows: what an input stores, what an edit changes, and whether two contents are equal.

import { type Entity, type Entry, type Fields, type Json, type Kind, entityOf, isCreate, isDelete } from './model.js';

const EVENT_DEFAULTS: Fields = {
  endDate: null, isAllDay: false, timeZone: null, notes: null, sourceType: 'manual', externalId: null, location: null, properties: {},
};
const TYPE_DEFAULTS: Fields = { color: null, icon: null };
/** The fields that an `EventInput` or `EventTypeInput` takes beside the id. */
const INPUT_FIELDS: Record<Entity, string[]> = {
  EVENT: ['eventTypeId', 'timestamp', ...Object.keys(EVENT_DEFAULTS)],
  EVENT_TYPE: ['name', ...Object.keys(TYPE_DEFAULTS)],
};
/** The fields that an edit can change: `sourceType` and `externalId` never change. */
const PATCH_FIELDS: Record<Entity, string[]> = {
  EVENT: INPUT_FIELDS.EVENT.filter((name) => name !== 'sourceType' && name !== 'externalId'),
  EVENT_TYPE: INPUT_FIELDS.EVENT_TYPE,
};

function pick(fields: Fields, names: string[]): Fields {
  return Object.fromEntries(names.filter((name) => fields[name] !== undefined).map((name) => [name, fields[name]!]));
}

/** The content that a create or restore stores. */
export function contentOf(entity: Entity, input: Fields): Fields {
  const defaults = entity === 'EVENT' ? EVENT_DEFAULTS : TYPE_DEFAULTS;
  // In an input, null means absent.
  const given = Object.fromEntries(Object.entries(input).filter(([name, value]) => name !== 'id' && value !== null));
  return { ...defaults, ...given };
}

/** The input that creates a row with this content. */
export const inputOf = (entity: Entity, id: string, fields: Fields): Fields => ({ id, ...pick(fields, INPUT_FIELDS[entity]) });

/** The patch that gives a row this content. */
export const patchOf = (entity: Entity, fields: Fields): Fields => pick(fields, PATCH_FIELDS[entity]);

/** The content after an edit: `properties: null` clears them. */
export function patched(fields: Fields, patch: Fields): Fields {
  const properties: Fields = patch.properties === null ? { properties: {} } : {};
  return { ...fields, ...patch, ...properties };
}

/** The event or event type of an input: a restore carries it one level deeper. */
export const subjectOf = (kind: Kind, input: Fields): Fields => (kind === 'restoreEvent' ? (input.event as Fields) : input);

/** The event types that an entry names: those of its content or of its patch. */
export function typesNamed(kind: Kind, input: Fields): string[] {
  const places = [subjectOf(kind, input), input.patch as Fields | undefined];
  return places.flatMap((place) => (typeof place?.eventTypeId === 'string' ? [place.eventTypeId] : []));
}

/** The content that a row shows while these entries about it are queued, in this order. */
export function project(base: Fields | null, entries: Pick<Entry, 'kind' | 'input'>[]): Fields | null {
  let fields = base;
  for (const { kind, input } of entries) {
    if (isDelete(kind)) fields = null;
    else if (isCreate(kind) || kind === 'restoreEvent') fields = { ...fields, ...contentOf(entityOf(kind), subjectOf(kind, input)) };
    else if (fields) fields = patched(fields, input.patch as Fields);
  }
  return fields;
}

/** Whether the stored content is what a write wanted. `stored` is null if the row is deleted. */
export function shows(stored: Fields | null, kind: Kind, input: Fields): boolean {
  if (isDelete(kind)) return stored === null;
  if (stored === null) return false;
  const wanted = kind === 'restoreEvent' ? patchOf('EVENT', contentOf('EVENT', subjectOf(kind, input))) : (input.patch as Fields);
  return Object.entries(patched({}, wanted)).every(([name, value]) => isEqual(stored[name] ?? null, value));
}

/** Deep equality of JSON values; the order of keys does not count. */
export function isEqual(a: Json, b: Json): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const [left, right] = [a as Fields, b as Fields];
  const names = Object.keys(left);
  return names.length === Object.keys(right).length
    && names.every((name) => Object.hasOwn(right, name) && isEqual(left[name]!, right[name]!));
}
