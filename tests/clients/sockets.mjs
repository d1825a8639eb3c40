// Tests graphql-ws: the token in connection_init, reconnecting after a cut, and the close codes.
import assert from 'node:assert/strict';
import test from 'node:test';

import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

import { newUser, openProxy, server } from './test-user.mjs';
import { CHANGES, openReader, receivesEachChangeOnceDespiteCuts } from './feed.mjs';

const socketUrl = (url) => `${url.replace('http', 'ws')}/graphql`;

for (const [place, params] of [
  ['authorization', (value) => ({ authorization: value })],
  ['Authorization', (value) => ({ Authorization: value })],
  ['headers.authorization', (value) => ({ headers: { authorization: value } })],
]) {
  test(`graphql-ws is accepted with a token in ${place} of connection_init`, async () => {
    const user = newUser();
    const connectionParams = params(`Bearer ${user.token}`);
    const client = createClient({ url: socketUrl(server), webSocketImpl: WebSocket, connectionParams });
    const responses = client.iterate({ query: '{ viewer { userId } }' });
    const { value } = await responses.next();
    assert.deepEqual(value.data, await user.ask('{ viewer { userId } }'));
    await client.dispose();
  });
}

test('graphql-ws goes on from the last cursor after the connection is cut, missing nothing, twice nothing', async () => {
  const user = newUser();
  const proxy = await openProxy();
  const reader = await openReader(user);
  let connected = 0;
  const client = createClient({
    url: socketUrl(proxy.url), webSocketImpl: WebSocket, shouldRetry: () => true, retryAttempts: 100,
    retryWait: async () => {}, connectionParams: { authorization: `Bearer ${user.token}` },
    on: { connected: () => { connected += 1; } },
  });
  const failures = [];
  const stop = client.subscribe({ query: CHANGES, variables: reader.variables }, {
    next: ({ data }) => reader.take(data.changes), error: (error) => failures.push(error), complete: () => {},
  });
  await receivesEachChangeOnceDespiteCuts(user, reader, proxy, () => connected);
  stop();
  await client.dispose();
  await proxy.close();
  assert.deepEqual(failures, []);
});

test('graphql-ws requests a new token after it was closed with 4403, and goes on', async () => {
  const user = newUser();
  const tokens = ['no', 'not either', user.token];
  const client = createClient({
    url: socketUrl(server), webSocketImpl: WebSocket, retryWait: async () => {},
    connectionParams: () => ({ authorization: `Bearer ${tokens.shift()}` }),
  });
  const { value } = await client.iterate({ query: '{ viewer { userId } }' }).next();
  assert.deepEqual(value.data, await user.ask('{ viewer { userId } }'));
  assert.deepEqual(tokens, []);
  await client.dispose();
});

const init = { type: 'connection_init', payload: { authorization: `Bearer ${newUser().token}` } };
const subscribe = { id: 'one', type: 'subscribe', payload: { query: CHANGES } };

/** The table of docs/reference/close-codes.md. */
for (const [code, when, messages, protocol = 'graphql-transport-ws'] of [
  [4400, 'a message is malformed', ['{']],
  [4401, 'an operation comes before the ack', [subscribe]],
  [4403, 'the token is missing', [{ type: 'connection_init' }]],
  [4403, 'the token is bad', [{ type: 'connection_init', payload: { authorization: 'Bearer no' } }]],
  [4406, 'the subprotocol is another', [], 'graphql-ws'],
  [4408, 'no connection_init comes in time', []],
  [4409, 'the id of an operation is in use', [init, subscribe, subscribe]],
  [4429, 'a second connection_init comes', [init, init]],
  [1009, 'a message is too big', [init, { ...subscribe, payload: { query: CHANGES, variables: { after: 'a'.repeat(300_000) } } }]],
]) {
  test(`a socket is closed with ${code} when ${when}`, async () => {
    const socket = new WebSocket(socketUrl(server), protocol);
    const closed = new Promise((resolve, reject) => socket.on('close', resolve).on('error', reject));
    socket.on('open', async () => {
      for (const message of messages) {
        const sent = typeof message === 'string' ? message : JSON.stringify(message);
        socket.send(sent);
        // An operation is allowed only after the ack of connection_init.
        if (message === init && messages[1] !== init) await new Promise((resolve) => socket.once('message', resolve));
      }
    });
    assert.equal(await closed, code);
  });
}
