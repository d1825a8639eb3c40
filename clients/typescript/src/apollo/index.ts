// A link for Apollo Client 3 and 4: marked mutations are durable when they resolve, go through the outbox, and change
// the cache again when the server has answered. Queries, subscriptions and other mutations pass.

import { ApolloLink, Observable } from '@apollo/client/core';
import type { DocumentNode, OperationDefinitionNode } from 'graphql';

import type { Idem } from '../client.js';
import { type Cache, followIdem } from './cache.js';
import { perform } from './mutations.js';
import { argumentsOf, project } from './selection.js';

export interface IdemLinkOptions {
  idem: Idem;
  /** The cache of the client that this link belongs to. What the server answers is written into it. */
  cache: Cache;
}

/**
 * Returns a link to put before the link to the server. It takes a mutation whose operation has the directive
 * `@offline`, or whose context has `offline: true`. Such a mutation may have these fields: `createEvent`,
 * `createEvents`, `updateEvent`, `deleteEvent`, `restoreEvent`, `createEventType`, `updateEventType` and
 * `deleteEventType`. Its result has the outcome that is to be expected; a refusal arrives by `onRefused` of the kit, and
 * the cache then has what the server has.
 */
export function createIdemLink({ idem, cache }: IdemLinkOptions): ApolloLink & { stop(): void } {
  const stop = followIdem(idem, cache);
  const link = new ApolloLink((operation, forward) => {
    const { query, variables } = operation;
    const mutation = mutationOf(query);
    if (!mutation || !(isMarked(mutation) || operation.getContext().offline === true)) return forward(operation);
    return new Observable<any>((observer) => {
      run(idem, query, mutation, variables).then((data) => {
        observer.next({ data });
        observer.complete();
      }, (error: unknown) => observer.error(error));
    });
  });
  return Object.assign(link, { stop });
}

function mutationOf({ definitions }: DocumentNode): OperationDefinitionNode | undefined {
  return definitions.find((definition): definition is OperationDefinitionNode => definition.kind === 'OperationDefinition' && definition.operation === 'mutation');
}

const isMarked = ({ directives }: OperationDefinitionNode) => directives?.some(({ name }) => name.value === 'offline') === true;

/** Performs the fields of a mutation one after the other, and shapes the answer as the document asks. */
async function run(idem: Idem, document: DocumentNode, mutation: OperationDefinitionNode, variables: Record<string, any>): Promise<object> {
  const answers: Record<string, unknown> = {};
  for (const field of mutation.selectionSet.selections) {
    if (field.kind !== 'Field') throw new TypeError('an offline mutation has no fragments at its root');
    const name = field.name.value;
    if (name === '__typename') continue;
    answers[name] = await perform(idem, name, argumentsOf(field, variables).input as Record<string, any>);
  }
  return project(document, mutation.selectionSet, { __typename: 'Mutation', ...answers }, variables);
}
