// The subscription that the tests of streams use, and a check that no change is lost when connections are
// cut.
import assert from 'node:assert/strict';

import { eventually } from './test-user.mjs';

export const CHANGES = `subscription Changes($after: Cursor) {
  changes(after: $after) { cursor hasMore reset changes { entity entityId version deleted event { id notes } } }
}`;

/** Returns the cursor of the feed head of this user. */
export const headOf = async (user) => (await user.ask('{ syncStatus { headCursor } }')).syncStatus.headCursor;

/**
 * Returns a reader that stores its cursor and the ids of the changes that it receives. A client evaluates
 * `variables` each time it sends them, so that a client that resubscribes by itself goes on from the last
 * cursor.
 */
export async function openReader(user) {
  const received = [];
  let cursor = await headOf(user);
  return {
    received,
    variables: { get after() { return cursor; } },
    take(page) {
      assert.equal(page.reset, null);
      cursor = page.cursor;
      received.push(...page.changes.map(({ entityId }) => entityId));
    },
  };
}

/** Writes events and cuts the connections in between. The reader must receive each change once, in order. */
export async function receivesEachChangeOnceDespiteCuts(user, reader, proxy, connectionCount) {
  const type = await user.newType();
  const ids = [type];
  const allReceived = () => eventually(`${ids.length} changes are received`, () => reader.received.length >= ids.length);
  await allReceived();
  for (let round = 0; round < 4; round += 1) {
    ids.push(...(await user.newEvents(type, [`shown ${round}`])));
    await allReceived();
    const before = connectionCount();
    proxy.cut();
    // The reader is not connected now, so it receives these events only through its cursor.
    for (const note of ['missed', 'missed too']) ids.push(...(await user.newEvents(type, [note])));
    await allReceived();
    assert.ok(connectionCount() > before, 'the client has reconnected');
  }
  assert.deepEqual(reader.received, ids);
}
