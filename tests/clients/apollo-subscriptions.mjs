// Tests the feed with Apollo Client 3 and 4, by graphql-ws and by multipart responses, over connections that
// are cut.
import assert from 'node:assert/strict';
import test from 'node:test';

import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

import { ApolloClient, ApolloLink, GraphQLWsLink, HttpLink, InMemoryCache, getMainDefinition, gql } from './apollo-version.mjs';
import { eventually, newUser, openProxy } from './test-user.mjs';
import { CHANGES, openReader, receivesEachChangeOnceDespiteCuts } from './feed.mjs';

/** Opens a client that connects through this proxy. `connected` counts the streams that were opened. */
function open(user, proxy, kind) {
  let connected = 0;
  const fetching = async (...request) => {
    const response = await fetch(...request);
    assert.match(response.headers.get('content-type'), kind === 'multipart' ? /^multipart\/mixed/ : /json/);
    connected += 1;
    return response;
  };
  const http = new HttpLink({ uri: `${proxy.url}/graphql`, headers: user.headers, fetch: fetching });
  const socket = createClient({
    url: `${proxy.url.replace('http', 'ws')}/graphql`, webSocketImpl: WebSocket, retryAttempts: 0,
    connectionParams: { authorization: `Bearer ${user.token}` }, on: { connected: () => { connected += 1; } },
  });
  const streamed = ({ query }) => kind === 'graphql-ws' && getMainDefinition(query).operation === 'subscription';
  const link = ApolloLink.split(streamed, new GraphQLWsLink(socket), http);
  const client = new ApolloClient({ link, cache: new InMemoryCache() });
  return { client, connected: () => connected, close: async () => { client.stop(); await socket.dispose(); } };
}

/**
 * Subscribes from the reader's cursor, and again when the stream ends or fails. Apollo always sends the
 * variables that it was given, so only a new subscription can use a newer cursor.
 */
function follow(client, reader) {
  let current;
  let stopped = false;
  const begin = () => {
    // After a cut Apollo may call both `error` and `complete`. Only the first call subscribes again.
    let ended = false;
    const again = () => {
      if (ended || stopped) return;
      ended = true;
      begin();
    };
    const variables = { after: reader.variables.after };
    current = client.subscribe({ query: gql(CHANGES), variables, fetchPolicy: 'no-cache' }).subscribe({
      next: ({ data, error }) => { if (data && !error) reader.take(data.changes); else again(); },
      error: again,
      complete: again,
    });
  };
  begin();
  return () => { stopped = true; current.unsubscribe(); };
}

for (const kind of ['graphql-ws', 'multipart']) {
  test(`changes by ${kind} go on from the last cursor after a cut, missing nothing, twice nothing`, async () => {
    const user = newUser();
    const proxy = await openProxy();
    const reader = await openReader(user);
    const { client, connected, close } = open(user, proxy, kind);
    const stop = follow(client, reader);
    await receivesEachChangeOnceDespiteCuts(user, reader, proxy, connected);
    stop();
    await close();
    await proxy.close();
  });

  test(`an event that comes by ${kind} is written to the cache by its id`, async () => {
    const user = newUser();
    const [id] = await user.newEvents(await user.newType(), ['before']);
    const proxy = await openProxy();
    const reader = await openReader(user);
    const { client, close } = open(user, proxy, kind);
    const kept = () => client.readFragment({ id: `Event:${id}`, fragment: gql('fragment N on Event { notes }') })?.notes;
    const variables = { after: reader.variables.after };
    const watching = client.subscribe({ query: gql(CHANGES), variables }).subscribe({});
    await user.ask('mutation($id: ID!) { updateEvent(input: { id: $id, patch: { notes: "after" } }) { result { outcome } } }', { id });
    await eventually('the cache has it', () => kept() === 'after');
    watching.unsubscribe();
    await close();
    await proxy.close();
  });
}
