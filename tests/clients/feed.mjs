// The subscription that the tests of streams follow, and a run of writes past cut connections.
import assert from 'node:assert/strict';

import { eventually } from './bed.mjs';

export const CHANGES = `subscription Changes($after: Cursor) {
  changes(after: $after) { cursor hasMore reset changes { entity entityId version deleted event { id notes } } }
}`;

/** Where the feed of this user ends now. */
export const headOf = async (user) => (await user.ask('{ syncStatus { headCursor } }')).syncStatus.headCursor;

/**
 * What a device keeps of its feed: the cursor, and what it was told. `variables` is read anew each time a
 * client sends it, so that one that subscribes again by itself goes on from the last cursor.
 */
export async function openReader(user) {
  const told = [];
  let cursor = await headOf(user);
  return {
    told,
    variables: { get after() { return cursor; } },
    take(page) {
      assert.equal(page.reset, null);
      cursor = page.cursor;
      told.push(...page.changes.map(({ entityId }) => entityId));
    },
  };
}

/** Writes events, cutting the wire before, between and behind them; each must be told once, in order. */
export async function tellsEachOncePastCuts(user, reader, wire, subscribed) {
  const type = await user.newType();
  const ids = [type];
  const toldAll = () => eventually(`${ids.length} entities are told`, () => reader.told.length >= ids.length);
  await toldAll();
  for (let round = 0; round < 4; round += 1) {
    ids.push(...(await user.newEvents(type, [`shown ${round}`])));
    await toldAll();
    const before = subscribed();
    wire.cut();
    // Nobody listens now: only the cursor brings these.
    for (const note of ['missed', 'missed too']) ids.push(...(await user.newEvents(type, [note])));
    await toldAll();
    assert.ok(subscribed() > before, 'the connection was made anew');
  }
  assert.deepEqual(reader.told, ids);
}
