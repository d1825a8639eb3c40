// Code of an app that uses the types of graphql-codegen. It is compiled and never run.
import type { EntryFragment, FlushMutation, FlushMutationVariables, FoundQuery, PullQueryVariables, TimelineQuery } from './types.js';

/** Ids, scalars and enums are strings as on the wire, and nullable fields have a nullable type. */
export const variables: FlushMutationVariables = {
  input: {
    clientId: 'phone',
    mutations: [
      { createEvent: { id: 'an id', eventTypeId: 'another', timestamp: '2026-01-02T03:04:05Z', properties: { km: 5 } } },
      { updateEvent: { id: 'an id', patch: { notes: null }, expectedVersion: 1, editId: 'a third' } },
      { deleteEventType: { id: 'another' } },
    ],
  },
};
export const first: PullQueryVariables = { first: 500 };
// @ts-expect-error two keys in a oneOf
export const two: FlushMutationVariables['input']['mutations'] = [{ deleteEvent: { id: 'a' }, deleteEventType: { id: 'a' } }];
// @ts-expect-error a page has a size
export const none: PullQueryVariables = {};

export function notes(event: EntryFragment): string {
  // @ts-expect-error may be null
  const sure: string = event.notes;
  return event.notes ?? sure;
}

export function kilometres(event: EntryFragment): unknown {
  const version: number = event.version;
  const timestamp: string = event.timestamp;
  return [version, timestamp, event.properties['km'], event.location?.latitude.toFixed(2)];
}

export function retries(response: FlushMutation): (number | null | undefined)[] {
  return response.applyMutations.results
    .filter((result) => result.outcome === 'REJECTED' && result.problem?.retryable)
    .map((result) => result.problem?.retryAfterMs);
}

export function cursors(response: TimelineQuery): string[] {
  return response.events.edges.map((edge) => edge.cursor);
}

export function bytes({ node }: FoundQuery): number | undefined {
  return node?.__typename === 'ImportJob' ? node.bytesTotal : undefined;
}
