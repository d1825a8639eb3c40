// The link for Apollo Client, with versions 4 and 3: see vitest.config.ts.
import 'fake-indexeddb/auto';

import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from '@apollo/client/core';
import { expect, test } from 'vitest';

import { createIdemLink } from '../src/apollo/index.js';
import { databaseName, indexedDbStorage } from '../src/storage/index.js';
import { connected, cut, openDevice } from './support/device.js';
import { eventually, tokenOf } from './support/server.js';
import { newUser, server } from './support/suite.js';

const at = '2026-01-02T03:04:05.000Z';
const EVENT = gql`fragment E on Event { id version notes timestamp location { latitude name } eventType { id name } }`;
const CREATE = gql`
  mutation Create($event: EventInput!) @offline {
    made: createEvent(input: { event: $event, clientId: "apollo" }) { result { index outcome sentId problem { code } event { ...E } } }
  }
  ${EVENT}`;
const UPDATE = gql`
  mutation Update($id: ID!, $patch: EventPatch!) {
    updateEvent(input: { id: $id, patch: $patch }) { result { outcome problem { code } event { ...E } } }
  }
  ${EVENT}`;
const LIST = gql`query List { events { nodes { ...E } } } ${EVENT}`;

/** A device whose app uses Apollo Client. */
function openApollo(user: string, options: Parameters<typeof openDevice>[2] = {}) {
  const device = openDevice(server, user, options);
  const cache = new InMemoryCache();
  const link = createIdemLink({ idem: device.idem, cache });
  const http = new HttpLink({
    uri: `${server.url}/graphql`, headers: { authorization: `Bearer ${tokenOf(user)}` },
    fetch: (input, init) => device.network(() => fetch(input, init), { url: String(input), body: String(init?.body) }),
  });
  const client = new ApolloClient({ link: ApolloLink.from([link, http]), cache });
  expect(client.version.split('.')[0]).toBe(process.env.APOLLO);
  const shown = () => client.readQuery<any>({ query: LIST })?.events.nodes.map((node: any) => node.notes);
  return { device, cache, client, shown };
}

test('a marked mutation resolves offline with the shape of the document, and the cache has the answer of the server later', async () => {
  const user = newUser();
  const { device, client } = openApollo(user, { network: cut });
  const type = await device.idem.types.create({ name: 'Run' });
  const id = device.idem.newId();
  const event = { id, eventTypeId: type.id, timestamp: '2026-01-02T04:04:05+01:00', notes: 'offline', location: { latitude: 1, longitude: 2 } };
  const { data } = await client.mutate<any>({ mutation: CREATE, variables: { event } });
  expect(data).toEqual({ made: { __typename: 'EventPayload', result: {
    __typename: 'EventResult', index: 0, outcome: 'CREATED', sentId: id, problem: null,
    event: { __typename: 'Event', id, version: 1, notes: 'offline', timestamp: at, location: { __typename: 'Location', latitude: 1, name: null }, eventType: { __typename: 'EventType', id: type.id, name: 'Run' } },
  } } });
  device.network = connected;
  await device.settled();
  const { data: listed } = await client.query<any>({ query: LIST });
  expect(listed.events.nodes).toMatchObject([{ id, notes: 'offline', version: 1 }]);
});

test('an edit by context is sent by the outbox, and edits of other devices reach the cache', async () => {
  const user = newUser();
  const { device, client, shown } = openApollo(user);
  const type = await device.idem.types.create({ name: 'Run' });
  const event = await device.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'one' });
  await device.settled();
  await client.query({ query: LIST });
  device.network = cut;
  const { data } = await client.mutate<any>({ mutation: UPDATE, variables: { id: event.id, patch: { notes: 'two' } }, context: { offline: true } });
  expect(data.updateEvent.result).toMatchObject({ outcome: 'UPDATED', event: { notes: 'two' } });
  expect(shown()).toEqual(['two']);
  device.network = connected;
  await device.settled();
  const other = openDevice(server, user);
  await other.settled();
  await other.idem.events.update(event.id, { notes: 'three' });
  await other.settled();
  await eventually('the cache has it', () => String(shown()) === 'three');
  await other.idem.events.remove(event.id);
  await eventually('it is evicted', () => shown() === undefined || shown().length === 0);
});

test('a refused mutation takes the optimistic result back, with its cause', async () => {
  const user = newUser();
  const { device, client, shown, cache } = openApollo(user);
  const type = await device.idem.types.create({ name: 'Run' });
  const event = await device.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'kept' });
  await device.settled();
  await client.query({ query: LIST });
  await client.mutate({ mutation: UPDATE, variables: { id: event.id, patch: { notes: 'x'.repeat(10_001) } }, context: { offline: true } });
  await eventually('the server has refused it', () => device.refused.length === 1);
  expect(device.refused[0]!.problem.code).toBe('TOO_LONG');
  await eventually('the cache has what the server has', () => String(shown()) === 'kept');
  const id = device.idem.newId();
  await client.mutate({ mutation: CREATE, variables: { event: { id, eventTypeId: type.id, timestamp: at, notes: 'y'.repeat(10_001) } } });
  await eventually('the event is taken back', () => device.refused.length === 2 && !(cache.extract() as object as Record<string, unknown>)[`Event:${id}`]);
});

test('what is impossible is answered as the server answers it, and other operations pass', async () => {
  const user = newUser();
  const { device, client } = openApollo(user);
  const { data } = await client.mutate<any>({ mutation: UPDATE, variables: { id: device.idem.newId(), patch: { notes: 'none' } }, context: { offline: true } });
  expect(data.updateEvent.result).toMatchObject({ outcome: 'REJECTED', problem: { code: 'NOT_FOUND' }, event: null });
  // Unmarked: the server answers.
  const passed = await client.mutate<any>({ mutation: UPDATE, variables: { id: device.idem.newId(), patch: { notes: 'none' } } });
  expect(passed.data.updateEvent.result).toMatchObject({ outcome: 'REJECTED', problem: { code: 'NOT_FOUND' } });
  const viewer = gql`mutation Cancel @offline { cancelImport(input: { id: "x" }) { problem { code } } }`;
  await expect(client.mutate({ mutation: viewer })).rejects.toThrow('cannot be done offline');
});

test('a marked mutation survives the end of the app', async () => {
  const user = newUser();
  const storage = () => indexedDbStorage(databaseName(server.url, null, user));
  const before = openApollo(user, { network: cut, storage: storage() });
  const type = await before.device.idem.types.create({ name: 'Run' });
  await before.client.mutate({ mutation: CREATE, variables: { event: { id: before.device.idem.newId(), eventTypeId: type.id, timestamp: at, notes: 'kept' } } });
  before.device.idem.close();
  const after = openApollo(user, { storage: storage() });
  await after.device.settled();
  const { data } = await after.client.query<any>({ query: LIST, fetchPolicy: 'network-only' });
  expect(data.events.nodes).toMatchObject([{ notes: 'kept' }]);
});
