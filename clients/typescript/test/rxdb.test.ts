// RxDB on the kit: devices that were offline have the same rows after they sync, whatever comes in between.
import { type RxCollection, createRxDatabase } from 'rxdb';
import { getRxStorageMemory } from 'rxdb/plugins/storage-memory';
import { afterEach, expect, test } from 'vitest';

import { conflictHandler, eventSchema, eventTypeSchema, replicateIdem } from '../src/rxdb/index.js';
import { type Network, type TestDevice, connected, cut, openDevice } from './support/device.js';
import { eventually } from './support/server.js';
import { newUser, server } from './support/suite.js';

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => { await Promise.all(closers.splice(0).map((close) => close())); });

const at = '2026-01-02T03:04:05.000Z';

/** A device whose app uses RxDB. */
async function openRxdb(user: string, network: Network = connected) {
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
  const insert = (eventTypeId: string, text: string) => events.insert({ id: device.idem.newId(), eventTypeId, timestamp: at, notes: text });
  const edit = async (id: string, patch: object) => (await events.findOne(id).exec(true)).incrementalPatch(patch);
  const remove = async (id: string) => (await events.findOne(id).exec(true)).incrementalRemove();
  return { device, events, types, states, errors, notes, insert, edit, remove };
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

test('two devices with conflicting offline edits have the same rows in the end, and another user sees none', async () => {
  const user = newUser();
  const [phone, laptop, other] = [await openRxdb(user), await openRxdb(user), await openRxdb(newUser())];
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
  expect(await other.notes()).toEqual([]);
});

test('a deletion reaches a device that edited the row offline, and its edit is kept as refused', async () => {
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

test('a refused row blocks no other, and is stored once it is corrected', async () => {
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

test('many rows, a restart, and what came while the collection was not replicated', async () => {
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

test('a row that is removed before it was sent causes no error, and a later removal reaches all devices', async () => {
  const user = newUser();
  const [phone, laptop] = [await openRxdb(user, cut), await openRxdb(user)];
  const type = await phone.device.idem.types.create({ name: 'Run' });
  const [never, later] = [await phone.insert(type.id, 'never'), await phone.insert(type.id, 'later')];
  await phone.remove(never.id);
  connect(phone.device);
  await agree(['later'], phone, laptop);
  await laptop.remove(later.id);
  await agree([], phone, laptop);
  expect([...phone.device.refused, ...laptop.device.refused]).toEqual([]);
});

test('after a reset all rows are received again, and none is lost or stored twice', async () => {
  const user = newUser();
  const phone = await openRxdb(user);
  const type = await phone.device.idem.types.create({ name: 'Run' });
  await phone.insert(type.id, 'kept');
  await agree(['kept'], phone);
  await phone.device.settled();
  let resets = 0;
  phone.device.network = (send, { body }) => {
    if (!body.includes('query Pull') || resets > 0) return send();
    resets += 1;
    return send(JSON.stringify({ ...JSON.parse(body), variables: { after: 'nonsense', first: 500 } }));
  };
  await phone.insert(type.id, 'new');
  await agree(['kept', 'new'], phone);
  await phone.device.settled();
  expect(resets).toBe(1);
  expect((await server.ask(user, '{ events { totalCount } }')).events.totalCount).toBe(2);
});

test('rows after a push that fails wait until it succeeds', async () => {
  const user = newUser();
  let pushes = 0;
  const phone = await openRxdb(user, async (send, { body }) => {
    if (body.includes('applyMutations') && (pushes += 1) === 2) throw new TypeError('fetch failed');
    return send();
  });
  const type = await phone.types.insert({ id: phone.device.idem.newId(), name: 'Walk' });
  const rows = (count: number) => Array.from({ length: count }, (_, number) => ({ id: phone.device.idem.newId(), eventTypeId: type.id, timestamp: at, notes: `note ${number}` }));
  await phone.events.bulkInsert(rows(100));
  await phone.events.bulkInsert(rows(150));
  await eventually('all are stored', async () => (await server.ask(user, '{ events { totalCount } }')).events.totalCount === 250);
  expect(phone.device.refused).toEqual([]);
  expect(pushes).toBeGreaterThan(1);
});

/** A promise and the function that resolves it. */
function latch() {
  let open: () => void = () => {};
  const passed = new Promise<void>((resolve) => { open = resolve; });
  return { passed, open };
}

test('a row has the right version even if a pull has the row before the answer to its push arrives', async () => {
  const user = newUser();
  const [phone, laptop] = [await openRxdb(user), await openRxdb(user)];
  const type = await phone.device.idem.types.create({ name: 'Run' });
  await phone.device.settled();
  const pushed = latch();
  phone.device.network = async (send, { body }) => {
    const response = await send();
    // The answer to the push comes long after the row was stored.
    if (body.includes('applyMutations')) await new Promise((resolve) => setTimeout(resolve, 300)).then(pushed.open);
    return response;
  };
  const own = await phone.insert(type.id, 'own');
  await laptop.insert(type.id, 'other');
  await pushed.passed;
  await agree(['own', 'other'], phone, laptop);
  await eventually('it has its version', async () => (await phone.events.findOne(own.id).exec(true)).version === 1);
});

test('an edit of a row that was deleted while the collection was not replicated gives way to the deletion', async () => {
  const user = newUser();
  const [phone, laptop] = [await openRxdb(user), openDevice(server, user)];
  const type = await phone.device.idem.types.create({ name: 'Run' });
  const gone = await phone.insert(type.id, 'gone');
  await phone.insert(type.id, 'kept');
  await agree(['gone', 'kept'], phone);
  await phone.device.settled();
  await Promise.all(phone.states.map((state) => state.cancel()));
  await laptop.settled();
  await laptop.idem.events.remove(gone.id);
  await laptop.settled();
  await phone.device.settled();
  await phone.edit(gone.id, { notes: 'edited' });
  const again = replicateIdem({ collection: phone.events, idem: phone.device.idem, entity: 'EVENT' });
  closers.unshift(() => again.cancel());
  await agree(['kept'], phone);
});

test('a page that is older than a push does not undo it', async () => {
  const user = newUser();
  const [phone, laptop] = [await openRxdb(user), await openRxdb(user)];
  const type = await phone.device.idem.types.create({ name: 'Run' });
  const edited = await phone.insert(type.id, 'first');
  await agree(['first'], phone, laptop);
  const shown: string[] = [];
  phone.events.findOne(edited.id).$.subscribe((row) => shown.push(row.notes));
  const [read, written] = [latch(), latch()];
  phone.device.network = async (send, { body }) => {
    const response = await send();
    if (body.includes('query Pull') && (await response.clone().text()).includes('theirs')) {
      read.open();
      await written.passed;
    }
    return response;
  };
  await laptop.edit(edited.id, { notes: 'theirs' });
  await read.passed;
  await phone.edit(edited.id, { notes: 'mine' });
  await eventually('it is queued', () => phone.device.idem.status.pending === 1);
  written.open();
  await agree(['mine'], phone, laptop);
  expect([...new Set(shown)]).toEqual(['first', 'mine']);
});

test('a deletion reaches a device that has pushed, and received no row yet', async () => {
  const user = newUser();
  const [phone, laptop] = [await openRxdb(user), await openRxdb(user)];
  const type = await phone.device.idem.types.create({ name: 'Run' });
  await phone.device.settled();
  const removed = latch();
  phone.device.network = async (send, { body }) => {
    if (body.includes('query Pull')) await removed.passed;
    return send();
  };
  const gone = await phone.insert(type.id, 'gone');
  await agree(['gone'], laptop);
  await laptop.remove(gone.id);
  await eventually('it is deleted', async () => (await server.ask(user, '{ events { totalCount } }')).events.totalCount === 0);
  removed.open();
  await agree([], phone, laptop);
});

test('a replication that is cancelled while it starts ends, however often', async () => {
  const phone = await openRxdb(newUser(), () => new Promise(() => {}));
  await Promise.all(phone.states.flatMap((state) => [state.cancel(), state.cancel()]));
  const again = replicateIdem({ collection: phone.events, idem: phone.device.idem, entity: 'EVENT' });
  closers.unshift(() => again.cancel());
  const type = await phone.device.idem.types.create({ name: 'Run' });
  await phone.insert(type.id, 'kept');
  await eventually('the kit has it', async () => (await phone.device.notes()).length === 1);
});
