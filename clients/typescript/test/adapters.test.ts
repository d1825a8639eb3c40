// The adapters for RxDB, TanStack DB and React, each with the real library.
import 'fake-indexeddb/auto';

import { createCollection } from '@tanstack/db';
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { type RxCollection, createRxDatabase } from 'rxdb';
import { getRxStorageMemory } from 'rxdb/plugins/storage-memory';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';

import { useEventTypes, useEvents, useSyncStatus } from '../src/react/index.js';
import { conflictHandler, eventSchema, eventTypeSchema, replicateIdem } from '../src/rxdb/index.js';
import { eventCollectionOptions, eventTypeCollectionOptions } from '../src/tanstack/index.js';
import { type TestDevice, closeDevices, connected, cut, openDevice } from './support/device.js';
import { Server, eventually } from './support/server.js';

let server: Server;
let users = 0;
const newUser = () => `adapters-${users += 1}`;
const closers: (() => Promise<unknown>)[] = [];
beforeAll(async () => { server = await Server.start(); });
afterEach(async () => {
  await Promise.all(closers.splice(0).map((close) => close()));
  closeDevices();
});
afterAll(() => server.end());

const at = '2026-01-02T03:04:05.000Z';

/** A device whose app uses RxDB. */
async function openRxdb(user: string, network = connected) {
  const device = openDevice(server, user, { network });
  const database = await createRxDatabase({ name: `rxdb${Math.random()}`.replace('.', ''), storage: getRxStorageMemory(), multiInstance: false });
  const { events, types } = await database.addCollections({
    events: { schema: eventSchema as any, conflictHandler }, types: { schema: eventTypeSchema as any, conflictHandler },
  }) as { events: RxCollection<any>; types: RxCollection<any> };
  const errors: unknown[] = [];
  const states = ([['EVENT', events], ['EVENT_TYPE', types]] as const).map(([entity, collection]) => replicateIdem({ collection, idem: device.idem, entity }));
  for (const state of states) state.error$.subscribe((error) => errors.push(error));
  closers.push(async () => {
    await Promise.all(states.map((state) => state.cancel()));
    await database.close();
  });
  const notes = async () => (await events.find().exec()).map((doc) => doc.notes as string).sort();
  return { device, events, types, states, errors, notes };
}

/** Waits until the collections of all devices have these notes. */
async function agree(notes: string[], ...parties: Awaited<ReturnType<typeof openRxdb>>[]): Promise<void> {
  let last: string[][] = [];
  await eventually(`all have ${notes}`, async () => {
    last = await Promise.all(parties.map((party) => party.notes()));
    return last.every((found) => String(found) === String([...notes].sort()));
  }).catch((error) => { throw new Error(`${error.message}: ${JSON.stringify(last)}`); });
  for (const party of parties) expect(party.errors).toEqual([]);
}

const connect = (...devices: TestDevice[]) => {
  for (const device of devices) {
    device.network = connected;
    device.idem.sync();
  }
};

test('RxDB: two devices with conflicting offline edits have the same rows in the end', async () => {
  const user = newUser();
  const [phone, laptop] = [await openRxdb(user), await openRxdb(user)];
  const type = await phone.types.insert({ id: phone.device.idem.newId(), name: 'Run' });
  const [first, second] = [phone.device.idem.newId(), phone.device.idem.newId()];
  for (const [id, notes] of [[first, 'first'], [second, 'second']]) await phone.events.insert({ id, eventTypeId: type.id, timestamp: at, notes });
  await agree(['first', 'second'], phone, laptop);
  for (const { device } of [phone, laptop]) device.network = cut;
  const edit = async (party: typeof phone, id: string, patch: object) => (await party.events.findOne(id).exec(true)).incrementalPatch(patch);
  await edit(phone, first!, { notes: 'phone', timeZone: 'Europe/Berlin' });
  await edit(phone, second!, { notes: 'phone too' });
  await edit(laptop, first!, { notes: 'laptop' });
  await laptop.events.insert({ id: laptop.device.idem.newId(), eventTypeId: type.id, timestamp: at, notes: 'third' });
  await eventually('both have queued', () => phone.device.idem.status.pending === 3 - 1 && laptop.device.idem.status.pending === 2);
  connect(phone.device);
  await phone.device.settled();
  connect(laptop.device);
  await agree(['laptop', 'phone too', 'third'], phone, laptop);
  const merged = await laptop.events.findOne(first).exec(true);
  expect(merged.timeZone).toBe('Europe/Berlin');
});

test('RxDB: a deletion reaches a device that edited the row offline, and its edit is kept as refused', async () => {
  const user = newUser();
  const [phone, laptop] = [await openRxdb(user), await openRxdb(user)];
  const type = await phone.device.idem.types.create({ name: 'Run' });
  const gone = await phone.events.insert({ id: phone.device.idem.newId(), eventTypeId: type.id, timestamp: at, notes: 'gone' });
  await phone.events.insert({ id: phone.device.idem.newId(), eventTypeId: type.id, timestamp: at, notes: 'kept' });
  await agree(['gone', 'kept'], phone, laptop);
  laptop.device.network = cut;
  await (await laptop.events.findOne(gone.id).exec(true)).incrementalPatch({ notes: 'edited' });
  await eventually('it is queued', () => laptop.device.idem.status.pending === 1);
  await (await phone.events.findOne(gone.id).exec(true)).incrementalRemove();
  await agree(['kept'], phone);
  await phone.device.settled();
  connect(laptop.device);
  await agree(['kept'], phone, laptop);
  expect(laptop.device.refused.map(({ problem }) => problem.code)).toEqual(['DELETED']);
});

test('RxDB: a refused row blocks no other, and is stored once it is corrected', async () => {
  const user = newUser();
  const [phone, laptop] = [await openRxdb(user), await openRxdb(user)];
  const type = await phone.device.idem.types.create({ name: 'Run' });
  const insert = (notes: string) => phone.events.insert({ id: phone.device.idem.newId(), eventTypeId: type.id, timestamp: at, notes });
  await insert('before');
  const long = await insert('x'.repeat(10_001));
  await insert('after');
  await agree(['before', 'after'], laptop);
  await eventually('it is refused', () => phone.device.idem.status.refused === 1);
  await (await phone.events.findOne(long.id).exec(true)).incrementalPatch({ notes: 'short' });
  await agree(['before', 'short', 'after'], phone, laptop);
});

test('RxDB: many rows, a restart, and what came while the collection was not replicated', async () => {
  const user = newUser();
  const phone = await openRxdb(user);
  const type = await phone.device.idem.types.create({ name: 'Run' });
  const notes = Array.from({ length: 450 }, (_, number) => `note ${number}`);
  await phone.events.bulkInsert(notes.map((note) => ({ id: phone.device.idem.newId(), eventTypeId: type.id, timestamp: at, notes: note })));
  const laptop = await openRxdb(user);
  await agree(notes, phone, laptop);
  await Promise.all(laptop.states.map((state) => state.cancel()));
  const [first] = await phone.device.idem.events.list({ search: 'note 7' });
  await phone.device.idem.events.remove(first!.id);
  const left = notes.filter((note) => note !== first!.notes);
  await phone.device.settled();
  await laptop.device.settled();
  const again = replicateIdem({ collection: laptop.events, idem: laptop.device.idem, entity: 'EVENT' });
  closers.unshift(() => again.cancel());
  await agree(left, phone, laptop);
});

test('TanStack DB: optimistic writes become durable, and other devices follow', async () => {
  const user = newUser();
  const [phone, laptop] = [openDevice(server, user), openDevice(server, user)];
  const [events, types] = [createCollection(eventCollectionOptions(phone.idem)), createCollection(eventTypeCollectionOptions(phone.idem))];
  const others = createCollection(eventCollectionOptions(laptop.idem));
  await Promise.all([events.preload(), types.preload(), others.preload()]);
  const typeId = phone.idem.newId();
  await types.insert({ id: typeId, name: 'Run' } as any).isPersisted.promise;
  const id = phone.idem.newId();
  const inserted = events.insert({ id, eventTypeId: typeId, timestamp: at, notes: 'one' } as any);
  expect(events.get(id)?.notes).toBe('one');
  await inserted.isPersisted.promise;
  expect(events.get(id)).toMatchObject({ notes: 'one', sourceType: 'manual' });
  await eventually('the other device has it', () => others.get(id)?.sync === 'synced');
  await others.update(id, (draft: any) => { draft.notes = 'two'; }).isPersisted.promise;
  await eventually('it comes back', () => events.get(id)?.notes === 'two');
  await events.delete(id).isPersisted.promise;
  await eventually('it is gone everywhere', () => !others.has(id) && !events.has(id));
});

test('React: the hooks give what there is before and while a list is followed', async () => {
  const { idem } = openDevice(server, newUser(), { network: cut });
  const Page = () => {
    const [{ events }, types, status] = [useEvents(idem, { limit: 5 }), useEventTypes(idem), useSyncStatus(idem)];
    return createElement('p', null, `${events?.length ?? 'reading'} ${types?.length ?? 'reading'} ${status.pending}`);
  };
  await idem.types.create({ name: 'Run' });
  expect(renderToString(createElement(Page))).toBe('<p>reading reading 1</p>');
});
