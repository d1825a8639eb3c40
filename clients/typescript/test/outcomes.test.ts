// What becomes of writes that meet other devices, refusals, and ids that the server knows already.
import { expect, test } from 'vitest';

import { connected, cut, openDevice } from './support/device.js';
import { eventually } from './support/server.js';
import { newUser, server } from './support/suite.js';

const at = '2026-01-02T03:04:05.000Z';
const DAY_MS = 86_400_000;

/** Two devices that have the same event. */
async function pair(options: Parameters<typeof openDevice>[2] = {}) {
  const user = newUser();
  const phone = openDevice(server, user, options);
  const type = await phone.idem.types.create({ name: 'Run' });
  const event = await phone.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'both' });
  await phone.settled();
  const laptop = openDevice(server, user, options);
  await laptop.settled();
  return { user, phone, laptop, type, event };
}

test('edits of different fields are merged, and of one field the later flush wins', async () => {
  const { phone, laptop, event } = await pair();
  for (const device of [phone, laptop]) device.network = cut;
  await phone.idem.events.update(event.id, { notes: 'phone', timeZone: 'Europe/Berlin' });
  await laptop.idem.events.update(event.id, { notes: 'laptop' });
  await laptop.idem.events.update(event.id, { properties: { distance: 5 } });
  phone.network = connected;
  await phone.settled();
  laptop.network = connected;
  await laptop.settled();
  await phone.settled();
  for (const device of [phone, laptop]) {
    expect(await device.idem.events.get(event.id)).toMatchObject({ notes: 'laptop', timeZone: 'Europe/Berlin', properties: { distance: 5 }, sync: 'synced' });
    expect(device.refused).toEqual([]);
  }
});

test('the merge of the app decides what is sent, and may give an edit up', async () => {
  const { phone, laptop, event } = await pair({
    merge: ({ patch, theirs }) => (patch.notes === 'give up' ? null : { notes: `${theirs.notes} and ${patch.notes}` }),
  });
  for (const [laptopNotes, wanted] of [['laptop', 'phone and laptop'], ['give up', 'phone']]) {
    laptop.network = cut;
    await laptop.idem.events.update(event.id, { notes: laptopNotes! });
    await phone.idem.events.update(event.id, { notes: 'phone' });
    await phone.settled();
    laptop.network = connected;
    await laptop.settled();
    await phone.settled();
    for (const device of [phone, laptop]) expect(await device.notes()).toEqual([wanted]);
  }
});

test('edits that another device has overtaken by a deletion are kept as refused', async () => {
  const { phone, laptop, event } = await pair();
  laptop.network = cut;
  await laptop.idem.events.update(event.id, { notes: 'edited' });
  await laptop.idem.events.update(event.id, { timeZone: 'Europe/Berlin' });
  await phone.idem.events.remove(event.id);
  await phone.settled();
  laptop.network = connected;
  await laptop.settled();
  expect(await laptop.idem.events.list()).toEqual([]);
  expect(laptop.refused.map(({ id, kind, fields, problem }) => [id, kind, fields, problem.code])).toEqual([
    [event.id, 'updateEvent', { notes: 'edited' }, 'DELETED'], [event.id, 'updateEvent', { timeZone: 'Europe/Berlin' }, 'DELETED'],
  ]);
});

test('a deletion is undone on all devices, also before it was sent', async () => {
  const { phone, laptop, event } = await pair();
  for (const isSent of [true, false]) {
    if (!isSent) phone.network = cut;
    const shown = (await phone.idem.events.get(event.id))!;
    await phone.idem.events.remove(event.id);
    if (isSent) await phone.settled();
    await phone.idem.events.restore(shown);
    phone.network = connected;
    await phone.settled();
    await laptop.settled();
    for (const device of [phone, laptop]) expect(await device.notes()).toEqual(['both']);
  }
  expect(phone.refused).toEqual([]);
});

test('a refused event blocks nothing, stays on the device, and is stored once it is corrected', async () => {
  const { phone, laptop, type } = await pair();
  const refused = await phone.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'x'.repeat(10_001) });
  await phone.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'after' });
  await phone.settled();
  const [write] = await phone.idem.refused.list();
  expect([write!.id, write!.kind, write!.problem.code]).toEqual([refused.id, 'createEvent', 'TOO_LONG']);
  expect(await phone.idem.events.get(refused.id)).toMatchObject({ sync: 'refused' });
  expect(phone.idem.status).toMatchObject({ refused: 1, pending: 0 });
  await phone.idem.refused.sendAgain(write!.key, { notes: 'corrected' });
  await phone.settled();
  await laptop.settled();
  for (const device of [phone, laptop]) expect(await device.notes()).toEqual(['after', 'both', 'corrected']);
  expect(await phone.idem.refused.list()).toEqual([]);
});

test('a refused event is corrected by the next edit, or discarded', async () => {
  const { phone, type } = await pair();
  const [edited, discarded, removed] = await phone.idem.events.createMany(
    ['a', 'b', 'c'].map((letter) => ({ eventTypeId: type.id, timestamp: at, notes: letter.repeat(10_001) })),
  );
  await phone.settled();
  const writes = await phone.idem.refused.list();
  expect(writes.map(({ id }) => id)).toEqual([edited!.id, discarded!.id, removed!.id]);
  await phone.idem.events.update(edited!.id, { notes: 'short' });
  await phone.idem.refused.discard(writes[1]!.key);
  await phone.idem.events.remove(removed!.id);
  await phone.settled();
  expect(await phone.notes()).toEqual(['both', 'short']);
  expect(await phone.idem.refused.list()).toEqual([]);
});

test('events of a refused type wait in the list of refusals and go with the type when it is corrected', async () => {
  const user = newUser();
  const phone = openDevice(server, user, { network: cut });
  const type = await phone.idem.types.create({ name: 'x'.repeat(101) });
  await phone.idem.events.createMany(['one', 'two'].map((notes) => ({ eventTypeId: type.id, timestamp: at, notes })));
  phone.network = connected;
  await phone.settled();
  const writes = await phone.idem.refused.list();
  expect(writes.map(({ problem }) => problem.code)).toEqual(['TOO_LONG', 'DEPENDENCY_REJECTED', 'DEPENDENCY_REJECTED']);
  await phone.idem.refused.sendAgain(writes[0]!.key, { name: 'Run' });
  await phone.settled();
  const { events } = await server.ask(user, '{ events { nodes { notes eventType { name } } } }');
  expect(events.nodes.map((node: { notes: string; eventType: { name: string } }) => [node.notes, node.eventType.name]).sort()).toEqual([['one', 'Run'], ['two', 'Run']]);
  expect(await phone.idem.refused.list()).toEqual([]);
});

test('a refused edit shows the row as the server has it', async () => {
  const { phone, event } = await pair();
  await phone.idem.events.update(event.id, { notes: 'x'.repeat(10_001) });
  await phone.settled();
  expect(await phone.idem.events.get(event.id)).toMatchObject({ notes: 'both', sync: 'synced' });
  expect((await phone.idem.refused.list()).map(({ kind, problem }) => [kind, problem.code])).toEqual([['updateEvent', 'TOO_LONG']]);
});

test('a type whose deletion is refused is there again', async () => {
  const { phone, type } = await pair();
  await phone.idem.types.remove(type.id);
  expect(await phone.idem.types.list()).toEqual([]);
  await phone.settled();
  expect((await phone.idem.types.list()).map(({ id }) => id)).toEqual([type.id]);
  expect(phone.refused.map(({ problem }) => problem.code)).toEqual(['EVENT_TYPE_IN_USE']);
});

test('types of one name made on two devices become one, with the events of both', async () => {
  const user = newUser();
  const devices = [openDevice(server, user, { network: cut }), openDevice(server, user, { network: cut })] as const;
  const types = [];
  for (const [number, { idem }] of devices.entries()) {
    const type = await idem.types.create({ name: 'Coffee' });
    await idem.events.create({ eventTypeId: type.id, timestamp: at, notes: `device ${number}` });
    types.push(type);
  }
  for (const device of devices) {
    device.network = connected;
    await device.settled();
  }
  await devices[0].settled();
  expect(devices[1].renamed).toEqual([{ entity: 'EVENT_TYPE', from: types[1]!.id, to: types[0]!.id }]);
  for (const { idem } of devices) {
    expect((await idem.types.list()).map(({ id }) => id)).toEqual([types[0]!.id]);
    expect((await idem.events.list({ eventTypeIds: [types[0]!.id] })).map(({ notes }) => notes).sort()).toEqual(['device 0', 'device 1']);
    expect((await idem.verify()).differing).toEqual({ EVENT: [], EVENT_TYPE: [] });
  }
});

test('an event that the server knows by its external id takes the id of the server', async () => {
  const { phone, laptop, type } = await pair();
  laptop.network = cut;
  const sample = { eventTypeId: type.id, timestamp: at, sourceType: 'healthkit', externalId: 'sample-1' };
  const known = await phone.idem.events.create({ ...sample, notes: 'phone' });
  await phone.settled();
  const again = await laptop.idem.events.create({ ...sample, notes: 'laptop' });
  await laptop.idem.events.update(again.id, { timeZone: 'Europe/Berlin' });
  laptop.network = connected;
  await laptop.settled();
  await phone.settled();
  expect(laptop.renamed).toEqual([{ entity: 'EVENT', from: again.id, to: known.id }]);
  for (const device of [phone, laptop]) {
    expect(await device.idem.events.get(known.id)).toMatchObject({ notes: 'phone', timeZone: 'Europe/Berlin' });
    expect(await device.notes()).toEqual(['both', 'phone']);
  }
});

test.for([['an hour', 3_600_000], ['three days', 3 * DAY_MS]] as const)('ids of a clock that is %s ahead are replaced, with everything that names them', async ([, ahead]) => {
  const user = newUser();
  const phone = openDevice(server, user, { network: cut, clock: () => Date.now() + ahead });
  const type = await phone.idem.types.create({ name: 'Run' });
  const event = await phone.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'first' });
  await phone.idem.events.update(event.id, { notes: 'edited' });
  phone.network = connected;
  await phone.settled();
  expect(phone.renamed.map(({ from }) => from)).toEqual([type.id, event.id]);
  const { events } = await server.ask(user, '{ events { nodes { id notes eventType { name } } } }');
  expect(events.nodes).toEqual([{ id: phone.renamed[1]!.to, notes: 'edited', eventType: { name: 'Run' } }]);
  expect(phone.refused).toEqual([]);
});

test('edits go through after the clock was ahead and is put right', async () => {
  const { user, phone, event } = await pair();
  await phone.idem.events.update(event.id, { notes: 'before' });
  phone.idem.close();
  let ahead = 2 * DAY_MS;
  const tablet = openDevice(server, user, { clock: () => Date.now() + ahead });
  await tablet.settled();
  await tablet.idem.events.update(event.id, { notes: 'ahead' });
  await tablet.settled();
  ahead = -DAY_MS;
  await tablet.idem.events.update(event.id, { notes: 'right' });
  await tablet.settled();
  expect((await server.ask(user, '{ events { nodes { notes } } }')).events.nodes).toEqual([{ notes: 'right' }]);
});

test('an event of a type that another device has deleted is refused after a pull', async () => {
  const { phone, laptop, event, type } = await pair();
  laptop.network = cut;
  await phone.idem.events.remove(event.id);
  await phone.idem.types.remove(type.id);
  await phone.settled();
  await laptop.idem.events.create({ eventTypeId: type.id, timestamp: at });
  laptop.network = connected;
  await laptop.settled();
  expect(laptop.refused.map(({ problem }) => problem.code)).toEqual(['EVENT_TYPE_NOT_FOUND']);
  await eventually('nothing waits', () => laptop.idem.status.pending === 0);
});
