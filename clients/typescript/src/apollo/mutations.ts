// Performs mutations of the server's schema on this device, and answers as the server would.

import type { IdemEvent, IdemEventType } from '../api/entities.js';
import type { Idem } from '../client.js';
import { LocalError } from '../core/write.js';

type Input = Record<string, any>;
type Write = (idem: Idem, input: Input) => Promise<object>;

const WRITES: Record<string, Write> = {
  createEvent: async (idem, { event }) => eventPayload(await answer('CREATED', event.id, () => idem.events.create(event)), idem),
  createEvents: async (idem, { events }: Input) => {
    const results: Answer<IdemEvent>[] = [];
    for (const event of events) results.push(await answer('CREATED', event.id, () => idem.events.create(event), results.length));
    const count = (outcome: string) => results.filter((result) => result.outcome === outcome).length;
    return {
      __typename: 'EventsPayload', results: await Promise.all(results.map((result) => eventResult(result, idem))),
      created: count('CREATED'), duplicates: 0, deleted: 0, rejected: count('REJECTED'),
    };
  },
  updateEvent: async (idem, { id, patch }) => eventPayload(await answer('UPDATED', id, () => idem.events.update(id, patch)), idem),
  deleteEvent: async (idem, { id }) => eventPayload(await answer<IdemEvent>('DELETED', id, () => idem.events.remove(id)), idem),
  restoreEvent: async (idem, { event }) => eventPayload(await answer('UPDATED', event.id, () => idem.events.restore(event)), idem),
  createEventType: async (idem, { eventType }) => typePayload(await answer('CREATED', eventType.id, () => idem.types.create(eventType))),
  updateEventType: async (idem, { id, patch }) => typePayload(await answer('UPDATED', id, () => idem.types.update(id, patch))),
  deleteEventType: async (idem, { id }) => typePayload(await answer<IdemEventType>('DELETED', id, () => idem.types.remove(id))),
};

/** Performs one root field of a mutation. Throws `TypeError` for a field that cannot be done offline. */
export function perform(idem: Idem, field: string, input: Input): Promise<object> {
  const write = Object.hasOwn(WRITES, field) ? WRITES[field]! : undefined;
  if (!write) throw new TypeError(`the mutation ${field} cannot be done offline`);
  return write(idem, input);
}

interface Answer<T> {
  index: number;
  sentId: string | null;
  outcome: string;
  version: number | null;
  problem: object | null;
  row: T | null;
}

/** Runs a write. What is impossible on this device is answered as the server answers it, as data. */
async function answer<T extends IdemEvent | IdemEventType>(outcome: string, sentId: string | undefined, write: () => Promise<T | void>, index = 0): Promise<Answer<T>> {
  const common = { index, sentId: sentId ?? null };
  try {
    const row = (await write()) ?? null;
    return { ...common, outcome, version: row && Math.max(row.version, 1), problem: null, row };
  } catch (error) {
    if (!(error instanceof LocalError) && !(error instanceof TypeError)) throw error;
    return { ...common, outcome: 'REJECTED', version: null, problem: problemOf(error), row: null };
  }
}

function problemOf(error: LocalError | TypeError): object {
  const code = error instanceof LocalError ? error.code : 'INVALID_VALUE';
  return {
    __typename: 'Problem', type: `urn:idem:problem:${code.toLowerCase().replaceAll('_', '-')}`, title: error.message, status: code === 'NOT_FOUND' ? 404 : 422,
    detail: error.message, instance: null, code, retryable: false, retryAfterMs: null, errors: [],
  };
}

async function eventPayload(result: Answer<IdemEvent>, idem: Idem): Promise<object> {
  return { __typename: 'EventPayload', result: await eventResult(result, idem) };
}

async function eventResult({ row, ...result }: Answer<IdemEvent>, idem: Idem): Promise<object> {
  const type = row && (await idem.types.get(row.eventTypeId));
  return { __typename: 'EventResult', ...result, matchedBy: null, differs: false, event: row && eventNode(row, type) };
}

function typePayload({ row, ...result }: Answer<IdemEventType>): object {
  return { __typename: 'EventTypePayload', result: { __typename: 'EventTypeResult', ...result, matchedBy: null, differs: false, eventType: row && typeNode(row) } };
}

/** An event as the server's schema has it. */
export function eventNode({ sync: _sync, location, ...event }: IdemEvent, type: IdemEventType | null): Record<string, unknown> {
  return {
    __typename: 'Event', ...event, version: Math.max(event.version, 1),
    location: location && { __typename: 'Location', ...location }, eventType: type && typeNode(type),
  };
}

export function typeNode({ sync: _sync, ...type }: IdemEventType): Record<string, unknown> {
  return { __typename: 'EventType', ...type, version: Math.max(type.version, 1) };
}
