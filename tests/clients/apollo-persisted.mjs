// Tests automatic persisted queries with Apollo Client 3 and 4.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';

import { ApolloClient, HttpLink, InMemoryCache, createPersistedQueryLink, gql } from './apollo-version.mjs';
import { newId, newUser, server } from './test-user.mjs';

for (const useGETForHashedQueries of [false, true]) {
  test(`a query is sent in full once, then by its hash alone (${useGETForHashedQueries ? 'GET' : 'POST'})`, async () => {
    const user = newUser();
    const name = `List${newId().replaceAll('-', '')}`;
    const query = gql(`query ${name} { events(first: 5) { nodes { id notes } } }`);
    const [id] = await user.newEvents(await user.newType(), ['a']);
    const requests = [];
    const recordingFetch = (url, options) => {
      const text = options.method === 'GET' ? new URL(url).searchParams.has('query') : 'query' in JSON.parse(options.body);
      requests.push([options.method, text ? 'text' : 'hash']);
      return fetch(url, options);
    };
    const sha256 = async (text) => createHash('sha256').update(text).digest('hex');
    const run = async () => {
      const http = new HttpLink({ uri: `${server}/graphql`, headers: user.headers, fetch: recordingFetch });
      const link = createPersistedQueryLink({ sha256, useGETForHashedQueries }).concat(http);
      const { data } = await new ApolloClient({ link, cache: new InMemoryCache() }).query({ query });
      assert.deepEqual(data.events.nodes.map((node) => node.id), [id]);
    };
    await run();
    await run();
    const hash = [useGETForHashedQueries ? 'GET' : 'POST', 'hash'];
    assert.deepEqual(requests, [hash, ['POST', 'text'], hash]);
  });
}
