// What comes back from the devices after the server has lost something, and what a device forgets.
import { afterEach, beforeEach, expect, test } from 'vitest';

import { closeDevices, cut, openDevice } from './support/device.js';
import { Server } from './support/server.js';

let server: Server;
beforeEach(async () => { server = await Server.start(); });
afterEach(async () => {
  closeDevices();
  await server.end();
});

const at = '2026-01-02T03:04:05.000Z';
const user = 'ann';

test.for([0, 1, 3])('creates, edits and deletions that a restored backup lost come back from the device, though the network is cut %i times', async (cuts) => {
  const phone = openDevice(server, user);
  const old = await phone.idem.types.create({ name: 'Old' });
  const [edited, deleted, restored, kept] = await phone.idem.events.createMany(
    ['edited', 'deleted', 'restored', 'kept'].map((notes) => ({ eventTypeId: old.id, timestamp: at, notes })),
  );
  await phone.idem.events.remove(restored!.id);
  await phone.settled();
  await server.kill();
  server.backUp();
  await server.start();

  await phone.idem.events.update(edited!.id, { notes: 'edited twice' });
  await phone.idem.events.update(deleted!.id, { notes: 'edited before it was deleted' });
  await phone.idem.events.remove(deleted!.id);
  await phone.idem.events.restore(restored!);
  const type = await phone.idem.types.create({ name: 'New' });
  await phone.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'new' });
  await phone.settled();
  phone.network = cut;
  await phone.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'queued' });
  await phone.idem.events.update(kept!.id, { timeZone: 'Europe/Berlin' });
  await server.kill();
  server.restore();
  await server.start();

  let left = cuts;
  // What is sent again is cut off before it reaches the server, while pages come through.
  phone.network = (send, { body }) => (body.includes('applyMutations') && (left -= 1) >= 0 ? Promise.reject(new TypeError('fetch failed')) : send());
  phone.idem.sync();
  await phone.settled();
  const { events } = await server.ask(user, '{ events { nodes { notes timeZone eventType { name } } } }');
  expect(events.nodes.map((node: any) => [node.notes, node.timeZone, node.eventType.name]).sort()).toEqual([
    ['edited twice', null, 'Old'], ['kept', 'Europe/Berlin', 'Old'], ['new', null, 'New'], ['queued', null, 'New'], ['restored', null, 'Old'],
  ]);
  expect(await phone.notes()).toEqual(['edited twice', 'kept', 'new', 'queued', 'restored']);
  expect(phone.refused).toEqual([]);
  expect((await phone.idem.verify()).differing).toEqual({ EVENT: [], EVENT_TYPE: [] });
});

test('a device that was away forgets what was deleted when its cursor is not valid any more', async () => {
  const [phone, laptop] = [openDevice(server, user), openDevice(server, user)];
  const type = await phone.idem.types.create({ name: 'Run' });
  const [gone] = await phone.idem.events.createMany(['gone', 'kept'].map((notes) => ({ eventTypeId: type.id, timestamp: at, notes })));
  await phone.settled();
  await laptop.settled();
  laptop.network = cut;
  await phone.idem.events.remove(gone!.id);
  await phone.settled();
  // A page with a reset, as another user's cursor gets it.
  let resets = 0;
  laptop.network = async (send, { body }) => {
    const response = await send();
    if (!body.includes('query Pull') || resets > 0) return response;
    resets += 1;
    const answer = await response.json();
    Object.assign(answer.data.changes, { changes: [], reset: 'CURSOR_INVALID', hasMore: true, cursor: await startCursor() });
    return Response.json(answer);
  };
  await laptop.settled();
  expect(resets).toBe(1);
  expect(await laptop.notes()).toEqual(['kept']);
});

/** The cursor at which a bootstrap begins, as the server gives it with a reset. */
async function startCursor(): Promise<string> {
  const { changes } = await server.ask(user, '{ changes(after: "nonsense") { cursor reset } }');
  expect(changes.reset).toBe('CURSOR_INVALID');
  return changes.cursor;
}

test('verify finds what differs from the server and repairs it', async () => {
  const phone = openDevice(server, user);
  const type = await phone.idem.types.create({ name: 'Run' });
  await phone.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'there' });
  await phone.settled();
  // The device believes in a position that it has not read: it misses what lies before.
  let isHidden = true;
  phone.network = async (send, { body }) => {
    const response = await send();
    if (!isHidden || !body.includes('query Pull')) return response;
    const answer = await response.json();
    answer.data.changes.changes = [];
    return Response.json(answer);
  };
  const laptop = openDevice(server, user);
  await laptop.settled();
  await laptop.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'missed' });
  await laptop.settled();
  await phone.settled();
  expect(await phone.notes()).toEqual(['there']);
  isHidden = false;
  const month = new Date().toISOString().slice(0, 7);
  expect(await phone.idem.verify()).toEqual({ differing: { EVENT: [month], EVENT_TYPE: [] }, isRepaired: true });
  expect(await phone.notes()).toEqual(['missed', 'there']);
});
