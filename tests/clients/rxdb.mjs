// Tests RxDB with the adapter of the documentation: devices that were offline have the same rows after they
// sync.
import assert from 'node:assert/strict';
import test from 'node:test';

import { createRxDatabase } from 'rxdb';
import { getRxStorageMemory } from 'rxdb/plugins/storage-memory';

import { eventually, newId, newUser, server } from './test-user.mjs';
import { editIdAfter } from './id.mjs';

let lastEdit = null;
const nextEdit = () => (lastEdit = editIdAfter(lastEdit));
import { conflictHandler, replicateIdem, schema } from './rxdb-adapter.mjs';

let devices = 0;
const opened = [];
test.afterEach(() => Promise.all(opened.splice(0).map((database) => database.close())));

/** Opens a device of this user: its rows, and functions that switch its network on and off. */
async function open(user) {
  devices += 1;
  const name = `device${devices}`;
  const database = await createRxDatabase({ name, storage: getRxStorageMemory(), multiInstance: false });
  opened.push(database);
  const { entries } = await database.addCollections({ entries: { schema, conflictHandler } });
  entries.preInsert((row) => { row.editId = nextEdit(); }, false);
  entries.preSave((row) => { row.editId = nextEdit(); }, false);
  entries.preRemove((row) => { row.editId = nextEdit(); }, false);
  const rejected = [];
  const resets = [];
  let replication;
  const online = ({ identifier = 'one', fetch: fetching } = {}) => {
    // RxDB shares a socket, with its token, between replications that have the same URL. So each device has
    // its own URL.
    const socket = `${server.replace('http', 'ws')}/graphql?device=${name}`;
    replication = replicateIdem({
      collection: entries, url: `${server}/graphql`, fetch: fetching, socket, token: user.token, clientId: name, identifier,
      onRejected: (row, problem) => rejected.push([row.id, problem.code]), onReset: (reason) => resets.push(reason),
    });
    replication.error$.subscribe((error) => { console.error(error); });
  };
  return {
    entries, rejected, resets, online,
    offline: () => replication.cancel(),
    /** Returns the id, the text and the version of all rows that are not deleted. */
    rows: async () => (await entries.find({ sort: [{ id: 'asc' }] }).exec())
      .map(({ id, notes, name: called, version }) => ({ id, shown: notes ?? called, version })),
    add: (row) => entries.insert({ id: newId(), version: 1, ...row }),
    edit: async (id, patch) => (await entries.findOne(id).exec(true)).incrementalPatch(patch),
    remove: async (id) => (await entries.findOne(id).exec(true)).incrementalRemove(),
  };
}

const type = (name) => ({ entity: 'EVENT_TYPE', name });
const event = (eventTypeId, notes) => ({ entity: 'EVENT', eventTypeId, notes, timestamp: '2026-01-02T03:04:05.000Z' });

/** Waits until all devices have the same rows, with the texts `shown`. */
async function agree(shown, ...parties) {
  let last;
  await eventually(`all show ${shown}`, async () => {
    last = await Promise.all(parties.map((device) => device.rows()));
    const seen = last.map((rows) => JSON.stringify(rows));
    return seen.every((rows) => rows === seen[0]) && String(last[0].map((row) => row.shown).sort()) === String([...shown].sort());
  }).catch((error) => { throw new Error(`${error.message}: ${JSON.stringify(last, null, 1)}`); });
}

/** Waits until a device has received all its rows from the server. */
const synced = (device) => eventually('all rows are synced', async () => (await device.entries.find().exec()).every((row) => row.createdAt));

test('two devices with conflicting offline edits have the same rows in the end, and another user sees none', async () => {
  const user = newUser();
  const [phone, laptop, otherUser] = await Promise.all([open(user), open(user), open(newUser())]);
  const run = await phone.add(type('run'));
  const [first, second] = [await phone.add(event(run.id, 'first')), await phone.add(event(run.id, 'second'))];
  for (const device of [phone, laptop, otherUser]) device.online();
  await agree(['run', 'first', 'second'], phone, laptop);

  await Promise.all([phone.offline(), laptop.offline()]);
  await phone.edit(first.id, { notes: 'phone' });
  await phone.edit(second.id, { notes: 'phone too' });
  await laptop.edit(first.id, { notes: 'laptop' });
  await laptop.add(event(run.id, 'third'));
  phone.online();
  await eventually('the edits of the phone are there', async () =>
    (await user.ask('{ events { nodes { notes } } }')).events.nodes.filter(({ notes }) => notes.startsWith('phone')).length === 2);
  laptop.online();
  // The laptop's edit conflicts with that of the phone, and the conflict handler lets the laptop's edit win.
  await agree(['run', 'laptop', 'phone too', 'third'], phone, laptop);
  assert.deepEqual(await otherUser.rows(), []);
  assert.deepEqual([...phone.rejected, ...laptop.rejected, ...phone.resets], []);
});

test('a deletion reaches a device that edited the row offline', async () => {
  const user = newUser();
  const [phone, laptop] = await Promise.all([open(user), open(user)]);
  const run = await phone.add(type('run'));
  const [gone] = [await phone.add(event(run.id, 'gone')), await phone.add(event(run.id, 'kept'))];
  for (const device of [phone, laptop]) device.online();
  await agree(['run', 'gone', 'kept'], phone, laptop);
  await laptop.offline();
  await laptop.edit(gone.id, { notes: 'edited' });
  await phone.remove(gone.id);
  await eventually('it is deleted', async () => (await user.countEvents()) === 1);
  laptop.online();
  await agree(['run', 'kept'], phone, laptop);
});

test('a row that the server rejects is reported and blocks no other row, and is stored once it is corrected', async () => {
  const user = newUser();
  const [phone, laptop] = await Promise.all([open(user), open(user)]);
  const run = await phone.add(type('run'));
  await phone.add(event(run.id, 'before'));
  const poison = await phone.add(event(run.id, 'x'.repeat(10_001)));
  await phone.add(event(run.id, 'behind'));
  for (const device of [phone, laptop]) device.online();
  await agree(['run', 'before', 'behind'], laptop);
  await eventually('the rejection is reported', () => phone.rejected.length > 0);
  assert.deepEqual(phone.rejected, [[poison.id, 'TOO_LONG']]);
  await phone.edit(poison.id, { notes: 'short' });
  await agree(['run', 'before', 'short', 'behind'], phone, laptop);
});

test('a row that is removed before it was sent causes no error, and a later removal reaches all devices', async () => {
  const user = newUser();
  const [phone, laptop] = await Promise.all([open(user), open(user)]);
  const run = await phone.add(type('run'));
  const [never, later] = [await phone.add(event(run.id, 'never')), await phone.add(event(run.id, 'later'))];
  await phone.remove(never.id);
  for (const device of [phone, laptop]) device.online();
  await agree(['run', 'later'], phone, laptop);
  await laptop.remove(later.id);
  await agree(['run'], phone, laptop);
  assert.deepEqual([...phone.rejected, ...laptop.rejected], []);
});

test('after a reset all rows are replicated again, and none is lost or stored twice', async () => {
  const user = newUser();
  const phone = await open(user);
  const run = await phone.add(type('run'));
  await phone.add(event(run.id, 'kept'));
  phone.online();
  await synced(phone);
  await phone.offline();
  await phone.add(event(run.id, 'new'));
  phone.online({ fetch: forgetful });
  await eventually('the reset is reported', () => phone.resets.length > 0);
  assert.equal(phone.resets[0], 'CURSOR_INVALID');
  await phone.offline();
  phone.online({ identifier: 'two' });
  await eventually('the new one is stored', async () => (await user.countEvents()) === 2);
  await agree(['run', 'kept', 'new'], phone);
  assert.deepEqual(phone.rejected, []);
});

test('more rows than fit into one push are all stored', async () => {
  const user = newUser();
  const [phone, laptop] = await Promise.all([open(user), open(user)]);
  const run = await phone.add(type('run'));
  const notes = Array.from({ length: 299 }, (_, n) => `note ${n}`);
  await phone.entries.bulkInsert(notes.map((note) => ({ id: newId(), version: 1, editId: nextEdit(), ...event(run.id, note) })));
  const removed = [];
  phone.entries.remove$.subscribe((change) => removed.push(change.documentId));
  for (const device of [phone, laptop]) device.online();
  await synced(phone);
  await agree(['run', ...notes], phone, laptop);
  assert.deepEqual([...phone.rejected, ...removed], []);
});

test('rows after a push that fails wait until it succeeds', async () => {
  const user = newUser();
  const phone = await open(user);
  const rows = (of, count) => Array.from({ length: count }, (_, n) => ({ id: newId(), version: 1, editId: nextEdit(), ...event(of.id, `note ${n}`) }));
  const walk = await phone.add(type('walk'));
  await phone.entries.bulkInsert(rows(walk, 99));
  const run = await phone.add(type('run'));
  await phone.entries.bulkInsert(rows(run, 150));
  let pushes = 0;
  // The first push has a hundred rows, and the others follow at once.
  const push = async (send) => {
    pushes += 1;
    if (pushes === 2) throw new Error('cut');
    return send();
  };
  phone.online({ fetch: between({ push }) });
  await synced(phone);
  assert.equal(await user.countEvents(), 249);
  assert.deepEqual([pushes, ...phone.rejected], [4]);
});

test('a row has the right version even if a pull has the row before the response to its push arrives', async () => {
  const user = newUser();
  const [phone, laptop] = await Promise.all([open(user), open(user)]);
  const [asked, stored, pulled] = [latch(), latch(), latch()];
  const hold = {};
  for (const device of [phone, laptop]) device.online(device === phone ? { fetch: between(hold) } : {});
  const run = await phone.add(type('run'));
  await agree(['run'], phone, laptop);
  await synced(phone);

  hold.pull = async (send) => {
    asked.open();
    await stored.passed;
    const response = await send();
    setTimeout(pulled.open, 200);
    return response;
  };
  hold.push = async (send) => {
    const response = await send();
    stored.open();
    await pulled.passed;
    return response;
  };
  await laptop.add(event(run.id, 'other'));
  await asked.passed;
  await phone.add(event(run.id, 'own'));
  await agree(['run', 'other', 'own'], phone, laptop);
  await synced(phone);
});

test('a page that is older than a push does not undo it', async () => {
  const user = newUser();
  const [phone, laptop] = await Promise.all([open(user), open(user)]);
  const [read, pushed] = [latch(), latch()];
  const textOf = (response) => response.clone().text();
  phone.online({
    fetch: between({
      pull: async (send) => {
        const response = await send();
        if ((await textOf(response)).includes('theirs')) {
          read.open();
          await pushed.passed;
        }
        return response;
      },
      push: async (send) => {
        const response = await send();
        // The first push was a conflict, and this is the second one.
        if ((await textOf(response)).includes('UPDATED')) setTimeout(pushed.open, 200);
        return response;
      },
    }),
  });
  laptop.online();
  const run = await phone.add(type('run'));
  const edited = await phone.add(event(run.id, 'first'));
  await agree(['run', 'first'], phone, laptop);
  const shown = [];
  phone.entries.findOne(edited.id).$.subscribe((row) => shown.push(row.notes));
  await laptop.edit(edited.id, { notes: 'theirs' });
  await read.passed;
  await phone.edit(edited.id, { notes: 'mine' });
  await agree(['run', 'mine'], phone, laptop);
  assert.deepEqual([...new Set(shown)], ['first', 'mine']);
});

test('a deletion reaches a device that has pushed, and pulled no row yet', async () => {
  const user = newUser();
  const [phone, laptop] = await Promise.all([open(user), open(user)]);
  const run = await phone.add(type('run'));
  const gone = await phone.add(event(run.id, 'gone'));
  const removed = latch();
  const order = [];
  phone.online({
    fetch: between({
      push: (send) => {
        order.push('push');
        return send();
      },
      pull: async (send) => {
        // This is long enough for a push that would not wait for the first page.
        await (order.length === 0 ? new Promise((done) => { setTimeout(done, 200); }) : removed.passed);
        order.push('pull');
        return send();
      },
    }),
  });
  laptop.online();
  await agree(['run', 'gone'], laptop);
  assert.deepEqual(order, ['pull', 'push']);
  await laptop.remove(gone.id);
  await eventually('it is deleted', async () => (await user.countEvents()) === 0);
  removed.open();
  await agree(['run'], phone, laptop);
});

test('a replication that is cancelled while it starts ends, however often', async () => {
  const phone = await open(newUser());
  phone.online({ fetch: (_, { signal } = {}) => new Promise((_done, fail) => { signal?.addEventListener('abort', () => fail(signal.reason)); }) });
  await Promise.all([phone.offline(), phone.offline()]);
  phone.online();
  const run = await phone.add(type('run'));
  await eventually('it is stored', async () => (await phone.entries.findOne(run.id).exec(true)).createdAt);
});

/** Returns a promise and the function that resolves it. */
function latch() {
  let open;
  const passed = new Promise((done) => { open = done; });
  return { passed, open };
}

/** Returns a `fetch` that passes pushes and pulls to the handlers in `hold`, if there are any. */
function between(hold) {
  return async (input, options) => {
    const request = new Request(input, options);
    const { query } = await request.clone().json();
    const [push, pull] = [query.includes('applyMutations'), query.includes('first: $first')];
    const handler = (push && hold.push) || (pull && hold.pull) || ((send) => send());
    return handler(() => fetch(request));
  };
}

/** Replaces the cursor with an invalid one, as if it came from another server. */
async function forgetful(request) {
  const body = await request.json();
  if (body.variables.first) body.variables.after = 'nonsense';
  return fetch(request.url, { method: 'POST', headers: request.headers, body: JSON.stringify(body) });
}
