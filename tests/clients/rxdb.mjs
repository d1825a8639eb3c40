// RxDB with the adapter of docs/api.md: devices that were offline end identical.
import assert from 'node:assert/strict';
import test from 'node:test';

import { createRxDatabase } from 'rxdb';
import { getRxStorageMemory } from 'rxdb/plugins/storage-memory';

import { eventually, newId, newUser, server } from './bed.mjs';
import { editIdAfter } from './id.mjs';

let lastEdit = null;
const nextEdit = () => (lastEdit = editIdAfter(lastEdit));
import { conflictHandler, replicateIdem, schema } from './rxdb-adapter.mjs';

let devices = 0;
const opened = [];
test.afterEach(() => Promise.all(opened.splice(0).map((database) => database.close())));

/** A device of this user: its rows, and a switch for its network. */
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
    // RxDB shares a socket between replications of one URL, the token of the first with it: a URL each.
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
    /** The living rows: what of them a person sees. */
    rows: async () => (await entries.find({ sort: [{ id: 'asc' }] }).exec())
      .map(({ id, notes, name: called, version }) => ({ id, shown: notes ?? called, version })),
    add: (row) => entries.insert({ id: newId(), version: 1, ...row }),
    edit: async (id, patch) => (await entries.findOne(id).exec(true)).incrementalPatch(patch),
    remove: async (id) => (await entries.findOne(id).exec(true)).incrementalRemove(),
  };
}

const type = (name) => ({ entity: 'EVENT_TYPE', name });
const event = (eventTypeId, notes) => ({ entity: 'EVENT', eventTypeId, notes, timestamp: '2026-01-02T03:04:05.000Z' });

/** Waits until every device shows the same, and that `shown`. */
async function agree(shown, ...parties) {
  let last;
  await eventually(`all show ${shown}`, async () => {
    last = await Promise.all(parties.map((device) => device.rows()));
    const seen = last.map((rows) => JSON.stringify(rows));
    return seen.every((rows) => rows === seen[0]) && String(last[0].map((row) => row.shown).sort()) === String([...shown].sort());
  }).catch((error) => { throw new Error(`${error.message}: ${JSON.stringify(last, null, 1)}`); });
}

/** Waits until the server has told a device of all its rows. */
const told = (device) => eventually('all is told of', async () => (await device.entries.find().exec()).every((row) => row.createdAt));

test('two devices with conflicting edits made offline end identical, and a stranger sees nothing', async () => {
  const user = newUser();
  const [phone, laptop, stranger] = await Promise.all([open(user), open(user), open(newUser())]);
  const run = await phone.add(type('run'));
  const [first, second] = [await phone.add(event(run.id, 'first')), await phone.add(event(run.id, 'second'))];
  for (const device of [phone, laptop, stranger]) device.online();
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
  // The laptop met the phone's edit as a conflict, and its own wins by the handler.
  await agree(['run', 'laptop', 'phone too', 'third'], phone, laptop);
  assert.deepEqual(await stranger.rows(), []);
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

test('a row that the server refuses is told, and holds up no other; corrected, it goes in', async () => {
  const user = newUser();
  const [phone, laptop] = await Promise.all([open(user), open(user)]);
  const run = await phone.add(type('run'));
  await phone.add(event(run.id, 'before'));
  const poison = await phone.add(event(run.id, 'x'.repeat(10_001)));
  await phone.add(event(run.id, 'behind'));
  for (const device of [phone, laptop]) device.online();
  await agree(['run', 'before', 'behind'], laptop);
  await eventually('it is told', () => phone.rejected.length > 0);
  assert.deepEqual(phone.rejected, [[poison.id, 'TOO_LONG']]);
  await phone.edit(poison.id, { notes: 'short' });
  await agree(['run', 'before', 'short', 'behind'], phone, laptop);
});

test('a row made and removed before it was sent is no matter, and one removed later goes everywhere', async () => {
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

test('after a reset the copy is replicated anew: nothing is lost, nothing is stored twice', async () => {
  const user = newUser();
  const phone = await open(user);
  const run = await phone.add(type('run'));
  await phone.add(event(run.id, 'kept'));
  phone.online();
  await told(phone);
  await phone.offline();
  await phone.add(event(run.id, 'new'));
  phone.online({ fetch: forgetful });
  await eventually('the reset is told', () => phone.resets.length > 0);
  assert.equal(phone.resets[0], 'CURSOR_INVALID');
  await phone.offline();
  phone.online({ identifier: 'two' });
  await eventually('the new one is stored', async () => (await user.countEvents()) === 2);
  await agree(['run', 'kept', 'new'], phone);
  assert.deepEqual(phone.rejected, []);
});

test('more rows than one push takes go in and stay', async () => {
  const user = newUser();
  const [phone, laptop] = await Promise.all([open(user), open(user)]);
  const run = await phone.add(type('run'));
  const notes = Array.from({ length: 299 }, (_, n) => `note ${n}`);
  await phone.entries.bulkInsert(notes.map((note) => ({ id: newId(), version: 1, editId: nextEdit(), ...event(run.id, note) })));
  const removed = [];
  phone.entries.remove$.subscribe((change) => removed.push(change.documentId));
  for (const device of [phone, laptop]) device.online();
  await told(phone);
  await agree(['run', ...notes], phone, laptop);
  assert.deepEqual([...phone.rejected, ...removed], []);
});

test('rows behind a push that is cut wait for it', async () => {
  const user = newUser();
  const phone = await open(user);
  const rows = (of, count) => Array.from({ length: count }, (_, n) => ({ id: newId(), version: 1, editId: nextEdit(), ...event(of.id, `note ${n}`) }));
  const walk = await phone.add(type('walk'));
  await phone.entries.bulkInsert(rows(walk, 99));
  const run = await phone.add(type('run'));
  await phone.entries.bulkInsert(rows(run, 150));
  let pushes = 0;
  // A hundred rows go alone, the others at once.
  const push = async (send) => {
    pushes += 1;
    if (pushes === 2) throw new Error('cut');
    return send();
  };
  phone.online({ fetch: between({ push }) });
  await told(phone);
  assert.equal(await user.countEvents(), 249);
  assert.deepEqual([pushes, ...phone.rejected], [4]);
});

test('a row whose push is answered behind the pull that brings it has its version all the same', async () => {
  const user = newUser();
  const [phone, laptop] = await Promise.all([open(user), open(user)]);
  const [asked, stored, pulled] = [gate(), gate(), gate()];
  const hold = {};
  for (const device of [phone, laptop]) device.online(device === phone ? { fetch: between(hold) } : {});
  const run = await phone.add(type('run'));
  await agree(['run'], phone, laptop);
  await told(phone);

  hold.pull = async (send) => {
    asked.open();
    await stored.passed;
    const answer = await send();
    setTimeout(pulled.open, 200);
    return answer;
  };
  hold.push = async (send) => {
    const answer = await send();
    stored.open();
    await pulled.passed;
    return answer;
  };
  await laptop.add(event(run.id, 'other'));
  await asked.passed;
  await phone.add(event(run.id, 'own'));
  await agree(['run', 'other', 'own'], phone, laptop);
  await told(phone);
});

test('a page that is older than a push does not undo it', async () => {
  const user = newUser();
  const [phone, laptop] = await Promise.all([open(user), open(user)]);
  const [read, pushed] = [gate(), gate()];
  const textOf = (answer) => answer.clone().text();
  phone.online({
    fetch: between({
      pull: async (send) => {
        const answer = await send();
        if ((await textOf(answer)).includes('theirs')) {
          read.open();
          await pushed.passed;
        }
        return answer;
      },
      push: async (send) => {
        const answer = await send();
        // Behind a conflict.
        if ((await textOf(answer)).includes('UPDATED')) setTimeout(pushed.open, 200);
        return answer;
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
  const removed = gate();
  const order = [];
  phone.online({
    fetch: between({
      push: (send) => {
        order.push('push');
        return send();
      },
      pull: async (send) => {
        // Time enough for a push that does not wait.
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

/** Something to wait for. */
function gate() {
  let open;
  const passed = new Promise((done) => { open = done; });
  return { passed, open };
}

/** Hands pushes and pulls to whoever holds them up by now. */
function between(hold) {
  return async (request, options) => {
    const asked = new Request(request, options);
    const { query } = await asked.clone().json();
    const [push, pull] = [query.includes('applyMutations'), query.includes('first: $first')];
    const held = (push && hold.push) || (pull && hold.pull) || ((send) => send());
    return held(() => fetch(asked));
  };
}

/** Sends a cursor that is none, as a copy of another server's would. */
async function forgetful(request) {
  const body = await request.json();
  if (body.variables.first) body.variables.after = 'nonsense';
  return fetch(request.url, { method: 'POST', headers: request.headers, body: JSON.stringify(body) });
}
