// Tests the feed as server-sent events with graphql-sse in its mode of distinct connections.
import assert from 'node:assert/strict';
import test from 'node:test';

import { createClient } from 'graphql-sse';

import { newUser, openProxy, server } from './test-user.mjs';
import { CHANGES, openReader, receivesEachChangeOnceDespiteCuts } from './feed.mjs';

test('graphql-sse answers a query', async () => {
  const user = newUser();
  const client = createClient({ url: `${server}/graphql`, headers: user.headers });
  const { value } = await client.iterate({ query: '{ viewer { userId } }' }).next();
  assert.deepEqual(value.data, await user.ask('{ viewer { userId } }'));
  client.dispose();
});

test('graphql-sse goes on from the last cursor after the connection is cut, missing nothing, twice nothing', async () => {
  const user = newUser();
  const proxy = await openProxy();
  const reader = await openReader(user);
  let connected = 0;
  const client = createClient({
    url: `${proxy.url}/graphql`, headers: user.headers, retryAttempts: 100, retry: async () => {},
    fetchFn: async (...request) => { const response = await fetch(...request); connected += 1; return response; },
  });
  const failures = [];
  const stop = client.subscribe({ query: CHANGES, variables: reader.variables }, {
    next: ({ data }) => reader.take(data.changes), error: (error) => failures.push(error), complete: () => {},
  });
  await receivesEachChangeOnceDespiteCuts(user, reader, proxy, () => connected);
  stop();
  client.dispose();
  await proxy.close();
  assert.deepEqual(failures, []);
});

test('graphql-sse with a bad token is refused before anything is streamed', async () => {
  const client = createClient({ url: `${server}/graphql`, headers: { authorization: 'Bearer no' }, retryAttempts: 0 });
  await assert.rejects(async () => { for await (const _ of client.iterate({ query: CHANGES })); }, /Unauthorized|401/);
});
