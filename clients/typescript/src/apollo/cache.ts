// Keeps Apollo's cache at what the kit has: own writes when the server has answered them, and changes of other devices.

import type { Idem } from '../client.js';
import { eventNode, typeNode } from './mutations.js';

/** What the link needs of the cache: the same in Apollo Client 3 and 4. */
export interface Cache {
  identify(node: { __typename: string; id: string }): string | undefined;
  modify(options: { id: string; fields: (value: any, details: { fieldName: string; toReference: (node: any) => any }) => any }): boolean;
  evict(options: { id: string }): boolean;
  gc(): string[];
}

/**
 * Changes the events and event types that the cache has already, and evicts those that are gone or that the server
 * refused to create. Returns the function that ends it.
 */
export function followIdem(idem: Idem, cache: Cache): () => void {
  return idem.onRows((rows) => {
    const isGone = (row: { sync: string } | null) => row === null || row.sync === 'refused';
    for (const { id, event, eventType } of rows) {
      const node = event && !isGone(event) ? eventNode(event, null) : eventType && !isGone(eventType) ? typeNode(eventType) : null;
      if (node) write(cache, node);
      else for (const __typename of ['Event', 'EventType']) cache.evict({ id: cache.identify({ __typename, id })! });
    }
    cache.gc();
  });
}

/** Only the fields that the cache has are changed, so that no query finds half an event. */
function write(cache: Cache, node: Record<string, unknown>): void {
  cache.modify({
    id: cache.identify(node as { __typename: string; id: string })!,
    fields: (value, { fieldName, toReference }) => {
      if (fieldName === 'eventType' && 'eventTypeId' in node) return toReference({ __typename: 'EventType', id: node.eventTypeId }) ?? value;
      return fieldName in node ? node[fieldName] : value;
    },
  });
}
