// What an app would write with the types that graphql-codegen makes; compiled, never run.
import type { EntryFragment, FlushMutation, FlushMutationVariables, FoundQuery, PullQueryVariables, TimelineQuery } from './types.js';

/** Ids, texts of scalars and enums are what they are on the wire; what may be null says so. */
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

export function retries(answer: FlushMutation): (number | null | undefined)[] {
  return answer.applyMutations.results
    .filter((result) => result.outcome === 'REJECTED' && result.problem?.retryable)
    .map((result) => result.problem?.retryAfterMs);
}

export function cursors(answer: TimelineQuery): string[] {
  return answer.events.edges.map((edge) => edge.cursor);
}

export function bytes({ node }: FoundQuery): number | undefined {
  return node?.__typename === 'ImportJob' ? node.bytesTotal : undefined;
}
