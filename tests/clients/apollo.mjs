// Tests Apollo Client 3 and 4: its cache, its retries and its optimistic responses. APOLLO is the major
// version.
import assert from 'node:assert/strict';
import test from 'node:test';

import {
  ApolloClient, ApolloLink, HttpLink, InMemoryCache, RetryLink, gql, relayStylePagination,
} from './apollo-version.mjs';
import { eventually, newId, newUser, server } from './test-user.mjs';

const EVENT = gql`fragment E on Event { id version notes timestamp eventType { id name version } }`;
const batch = (kind) => gql`
  ${kind} Batch($events: [EventInput!]!) {
    createEvents(input: { events: $events, clientId: "apollo" }) {
      created duplicates rejected
      results { index sentId outcome matchedBy differs version problem { code errors { pointer code } } event { ...E } }
    }
  }
  ${EVENT}`;
const BATCH = batch('mutation');
const CREATE = gql`
  mutation Create($event: EventInput!) {
    createEvent(input: { event: $event, clientId: "apollo" }) {
      result { index outcome problem { code } event { ...E } }
    }
  }
  ${EVENT}`;
const LIST = gql`
  query List($first: Int, $after: String, $filter: EventFilter) {
    events(first: $first, after: $after, filter: $filter) {
      edges { cursor node { ...E } }
      pageInfo { hasNextPage endCursor }
    }
  }
  ${EVENT}`;

/** Returns a client of this user, configured like that of an app: pages of a connection are merged into one list. */
function clientOf(user, { fetch: fetching = fetch, links = [] } = {}) {
  const http = new HttpLink({ uri: `${server}/graphql`, headers: user.headers, fetch: fetching });
  const typePolicies = { Query: { fields: { events: relayStylePagination(['filter']) } } };
  return new ApolloClient({ link: ApolloLink.from([...links, http]), cache: new InMemoryCache({ typePolicies }) });
}

const event = (eventTypeId, more) => ({ id: newId(), eventTypeId, timestamp: '2026-01-02T03:04:05Z', ...more });

test('the cache normalizes Nodes by their ids, and nothing else', async () => {
  const user = newUser();
  const type = await user.newType('run');
  const client = clientOf(user);
  const { data } = await client.mutate({ mutation: BATCH, variables: { events: [event(type), event(type)] } });
  await client.query({ query: LIST });
  const { data: others } = await client.query({
    query: gql`{
      changes { cursor changes { entityId event { id version } eventType { id version } } }
      syncStatus { headCursor counts { entity live } limits { batchItemsMax } sources { sourceType count } }
      viewer { userId }
    }`,
  });
  const kept = Object.keys(client.cache.extract()).filter((key) => !key.startsWith('ROOT_') && key !== '__META');
  const events = data.createEvents.results.map(({ event: { id } }) => `Event:${id}`);
  assert.deepEqual(kept.sort(), [...events, `EventType:${type}`].sort());
  assert.equal(others.changes.changes.length, 3);
});

test('a batch with one id twice reads back whole from the cache', async () => {
  const user = newUser();
  const type = await user.newType();
  const client = clientOf(user);
  const [once, other] = [event(type, { notes: 'first' }), event(type, { notes: 'other' })];
  const events = [once, { ...once, notes: 'second' }, other, event(newId())];
  const variables = { events };
  const { data } = await client.mutate({ mutation: BATCH, variables, keepRootFields: true });
  const read = client.cache.read({ query: batch('query'), variables, rootId: 'ROOT_MUTATION', optimistic: false });
  assert.deepEqual(read, data);
  const { results } = read.createEvents;
  assert.deepEqual(results.map(({ index, sentId, outcome }) => [index, sentId, outcome]), [
    [0, once.id, 'CREATED'], [1, once.id, 'DUPLICATE'], [2, other.id, 'CREATED'], [3, events[3].id, 'REJECTED'],
  ]);
  assert.deepEqual(results.map(({ differs }) => differs), [false, true, false, false]);
  assert.deepEqual(results.map((result) => result.event?.notes), ['first', 'first', 'other', undefined]);
});

test('an update answered by the server changes the event in every list', async () => {
  const user = newUser();
  const [id] = await user.newEvents(await user.newType(), ['before']);
  const client = clientOf(user);
  await client.query({ query: LIST });
  await client.mutate({
    mutation: gql`
      mutation($id: ID!) {
        updateEvent(input: { id: $id, patch: { notes: "after" }, expectedVersion: 1 }) { result { outcome event { ...E } } }
      }
      ${EVENT}`,
    variables: { id },
  });
  const list = client.readQuery({ query: LIST });
  assert.deepEqual(list.events.edges.map(({ node }) => [node.notes, node.version]), [['after', 2]]);
});

test('pages of events grow into one list by relayStylePagination', async () => {
  const user = newUser();
  const ids = await user.newEvents(await user.newType(), Array.from({ length: 25 }, (_, number) => `run ${number}`));
  const client = clientOf(user);
  const list = client.watchQuery({ query: LIST, variables: { first: 10 } });
  const watching = list.subscribe({});
  const shown = () => client.readQuery({ query: LIST, variables: { first: 10 } })?.events;
  await eventually('the first page is there', () => shown()?.edges.length === 10);
  for (const total of [20, 25]) {
    assert.equal(shown().pageInfo.hasNextPage, true);
    await list.fetchMore({ variables: { after: shown().pageInfo.endCursor } });
    await eventually('the next page is there', () => shown().edges.length === total);
  }
  assert.equal(shown().pageInfo.hasNextPage, false);
  watching.unsubscribe();
  // Newest first, each once.
  assert.deepEqual(shown().edges.map(({ node }) => node.id), ids.reverse());
});

test('RetryLink stores a batch once although its response was lost after the commit', async () => {
  const user = newUser();
  const type = await user.newType();
  let sent = 0;
  const losing = async (...request) => {
    const response = await fetch(...request);
    sent += 1;
    if (sent > 2) return response;
    await response.text();
    throw new TypeError('fetch failed');
  };
  const retry = new RetryLink({ delay: { initial: 1, jitter: false }, attempts: { max: 5 } });
  const client = clientOf(user, { fetch: losing, links: [retry] });
  const { data } = await client.mutate({ mutation: BATCH, variables: { events: [event(type), event(type)] } });
  assert.equal(sent, 3);
  assert.deepEqual(data.createEvents.results.map(({ outcome, version, differs }) => [outcome, version, differs]),
    [['DUPLICATE', 1, false], ['DUPLICATE', 1, false]]);
  assert.equal(await user.countEvents(), 2);
});

test('an optimistic event is removed when it is rejected, and stays when it is created', async () => {
  const user = newUser();
  const type = await user.newType('run');
  await user.newEvents(type, ['there']);
  const client = clientOf(user);
  const list = client.watchQuery({ query: LIST });
  const seen = [];
  const watching = list.subscribe(({ data }) => {
    const notes = data?.events?.edges?.map(({ node }) => node.notes).sort();
    if (notes && String(notes) !== String(seen.at(-1))) seen.push(notes);
  });
  await eventually('the list is there', () => seen.length === 1);

  const create = (input) => client.mutate({
    mutation: CREATE,
    variables: { event: input },
    optimisticResponse: {
      createEvent: {
        __typename: 'EventPayload',
        result: {
          __typename: 'EventResult', index: 0, outcome: 'CREATED', problem: null,
          event: {
            __typename: 'Event', id: input.id, version: 1, notes: input.notes, timestamp: '2026-01-02T03:04:05.000Z',
            eventType: { __typename: 'EventType', id: type, name: 'run', version: 1 },
          },
        },
      },
    },
    update(cache, { data }) {
      const { outcome, event: node } = data.createEvent.result;
      if (outcome !== 'CREATED') return;
      cache.updateQuery({ query: LIST }, (old) => ({
        events: { ...old.events, edges: [{ __typename: 'EventEdge', cursor: '', node }, ...old.events.edges] },
      }));
    },
  });
  const refused = await create(event(newId(), { notes: 'refused' }));
  assert.equal(refused.data.createEvent.result.problem.code, 'EVENT_TYPE_NOT_FOUND');
  await eventually('the optimistic event is removed', () => seen.length === 3);
  const kept = await create(event(type, { notes: 'kept' }));
  assert.equal(kept.data.createEvent.result.outcome, 'CREATED');
  await eventually('it is shown', () => seen.length === 4);
  watching.unsubscribe();
  assert.deepEqual(seen, [['there'], ['refused', 'there'], ['there'], ['kept', 'there']]);
});
