// The guides for clients against a server: their code is the code of these files, the loop syncs, the commands run.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

import { eventually, newId, newUser, server, tokenOf } from './test-user.mjs';
import { editIdAfter, idMaker } from './id.mjs';

const run = promisify(execFile);
const here = import.meta.dirname;
const page = (name) => readFile(path.join(here, '../../docs', name), 'utf8');
const guides = ['offline-client', 'client-libraries', 'imports'].map((name) => page(`guides/${name}.md`));
const manual = (await Promise.all(guides)).join('\n');

/** Returns the code blocks in a language. */
const blocks = (language) => [...manual.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms'))].map(([, code]) => code);

for (const [file, language] of [['loop.ts', 'ts'], ['id.mjs', 'js']]) {
  test(`the manual shows ${file} as it is run`, async () => {
    const code = await readFile(path.join(here, file), 'utf8');
    assert.ok(blocks(language).includes(code), `docs/guides have another ${file}`);
  });
}

const folder = await mkdtemp(path.join(tmpdir(), 'idem-manual-'));
test.after(() => rm(folder, { recursive: true }));
const flags = ['--strict', '--noUncheckedIndexedAccess', '--target', 'es2023', '--module', 'nodenext', '--allowJs', '--types', ''];
await run(path.join(here, 'node_modules/.bin/tsc'), [...flags, '--outDir', folder, path.join(here, 'loop.ts')])
  .catch(({ stdout }) => assert.fail(stdout));
// Node takes a .js file outside a package for CommonJS, so it is copied to .mjs.
await run('cp', [path.join(folder, 'loop.js'), path.join(folder, 'loop.mjs')]);
const loop = await import(pathToFileURL(path.join(folder, 'loop.mjs')));

/** Returns the connection of the loop to the server. `fetching` replaces the network. */
const connection = (user, clientId, fetching = fetch) =>
  ({ url: server, clientId, token: async () => user.token, fetch: fetching, backoffMs: 1 });

const runType = { name: 'run', color: null };
const event = (eventTypeId, notes) => ({ eventTypeId, timestamp: '2026-01-02T03:04:05.000Z', notes });
const notes = (copy) => [...copy.rows.values()].map(({ fields }) => fields.notes ?? fields.name).sort();

test('the loop: what two devices wrote offline is on both after they sync', async () => {
  const user = newUser();
  const [phone, laptop] = [loop.emptyCopy(), loop.emptyCopy()];
  const type = loop.create(phone, 'EVENT_TYPE', runType);
  const first = loop.create(phone, 'EVENT', event(type, 'first'));
  loop.update(phone, first, { notes: 'edited' });
  // Both devices create a type with the same name. The laptop's id becomes an alias, and its rows get the
  // stored id.
  const twin = loop.create(laptop, 'EVENT_TYPE', runType);
  loop.create(laptop, 'EVENT', event(twin, 'second'));
  await loop.sync(phone, connection(user, 'phone'));
  await loop.sync(laptop, connection(user, 'laptop'));
  await loop.sync(phone, connection(user, 'phone'));
  assert.deepEqual(notes(phone), ['edited', 'run', 'second']);
  assert.deepEqual(new Map([...laptop.rows].sort()), new Map([...phone.rows].sort()));
  assert.deepEqual([...laptop.outbox, ...phone.outbox, ...laptop.refused, ...phone.refused], []);
});

test('the loop: a response lost after the commit stores nothing twice and undoes no later edit', async () => {
  const user = newUser();
  let sent = 0;
  const losing = async (...request) => {
    const response = await fetch(...request);
    sent += 1;
    if (sent % 2 === 0) return response;
    await response.text();
    throw new TypeError('fetch failed');
  };
  const copy = loop.emptyCopy();
  const type = loop.create(copy, 'EVENT_TYPE', runType);
  const id = loop.create(copy, 'EVENT', event(type, 'a'));
  await loop.sync(copy, connection(user, 'phone', losing));
  loop.update(copy, id, { notes: 'b' });
  loop.update(copy, id, { notes: 'c' });
  await loop.sync(copy, connection(user, 'phone', losing));
  assert.ok(sent >= 8, 'every response was lost once');
  assert.deepEqual([await user.countEvents(), notes(copy), copy.rows.get(id).version], [1, ['c', 'run'], 3]);
  assert.deepEqual(copy.outbox, []);
});

test('the loop: a conflict is merged field by field, a deletion reaches an edited row, a refusal is shown', async () => {
  const user = newUser();
  const [phone, laptop] = [loop.emptyCopy(), loop.emptyCopy()];
  const type = loop.create(phone, 'EVENT_TYPE', runType);
  const [both, gone] = [loop.create(phone, 'EVENT', event(type, 'both')), loop.create(phone, 'EVENT', event(type, 'gone'))];
  await loop.sync(phone, connection(user, 'phone'));
  await loop.sync(laptop, connection(user, 'laptop'));
  loop.update(phone, both, { timestamp: '2026-02-02T00:00:00.000Z' });
  loop.remove(phone, gone);
  loop.update(laptop, both, { notes: 'merged' });
  loop.update(laptop, gone, { notes: 'edited' });
  const poison = loop.create(laptop, 'EVENT', event(type, 'x'.repeat(10_001)));
  loop.create(laptop, 'EVENT', event(type, 'behind'));
  await loop.sync(phone, connection(user, 'phone'));
  await loop.sync(laptop, connection(user, 'laptop'));
  await loop.sync(phone, connection(user, 'phone'));
  assert.deepEqual(laptop.rows.get(both).fields, { eventTypeId: type, timestamp: '2026-02-02T00:00:00.000Z', notes: 'merged' });
  assert.deepEqual(notes(phone), ['behind', 'merged', 'run']);
  const refused = laptop.refused.map(({ queued, problem }) => [queued.id, problem.code]);
  assert.deepEqual(refused, [[gone, 'DELETED'], [poison, 'TOO_LONG']], 'the edit that was overtaken is shown');
  // A rejected row stays on the device until the user corrects or deletes it.
  assert.ok(laptop.rows.get(poison).unsent);
  laptop.rows.delete(poison);
  assert.deepEqual(new Map([...laptop.rows].sort()), new Map([...phone.rows].sort()));
});

test('the loop: one entry of a shape the server does not know is found by halves, the others go in', async () => {
  const user = newUser();
  const copy = loop.emptyCopy();
  const type = loop.create(copy, 'EVENT_TYPE', runType);
  for (const note of ['a', 'b', 'c']) loop.create(copy, 'EVENT', event(type, note));
  const odd = loop.create(copy, 'EVENT', { ...event(type, 'odd'), mood: 'new field' });
  loop.create(copy, 'EVENT', event(type, 'd'));
  await loop.sync(copy, connection(user, 'phone'));
  assert.equal(await user.countEvents(), 4);
  assert.deepEqual(copy.refused.map(({ queued }) => queued.id), [odd]);
});

test('the loop: an outbox of more bytes than one request may have goes in by halves', async () => {
  const user = newUser();
  const copy = loop.emptyCopy();
  const type = loop.create(copy, 'EVENT_TYPE', runType);
  for (let place = 0; place < 160; place += 1) loop.create(copy, 'EVENT', event(type, '€'.repeat(9_999)));
  await loop.flush(copy, connection(user, 'phone'));
  assert.deepEqual([await user.countEvents(), copy.refused], [160, []]);
});

test('the loop: after a restored backup what it lost comes back from the device, and what it never had goes', async () => {
  const user = newUser();
  const copy = loop.emptyCopy();
  const type = loop.create(copy, 'EVENT_TYPE', runType);
  const gone = loop.create(copy, 'EVENT', event(type, 'gone'));
  await loop.sync(copy, connection(user, 'phone'));
  // The device believes that this event was stored, and the backup does not have it.
  const lost = loop.create(copy, 'EVENT', event(type, 'lost'));
  copy.outbox = [];
  await user.ask('mutation($id: ID!) { deleteEvent(input: { id: $id }) { result { outcome } } }', { id: gone });
  assert.equal((await fetch(process.env.IDEM_RESTORE_URL)).status, 200);
  await loop.sync(copy, connection(user, 'phone'));
  assert.deepEqual(notes(copy), ['lost', 'run']);
  assert.equal((await user.ask('query($id: ID!) { event(id: $id) { notes } }', { id: lost })).event.notes, 'lost');
});

test('the loop: edits and deletions that a restored backup lost come back from the device', async () => {
  const user = newUser();
  const [copy, other] = [loop.emptyCopy(), loop.emptyCopy()];
  const type = loop.create(copy, 'EVENT_TYPE', runType);
  const [edited, gone, heard, revived] = ['edited', 'gone', 'heard', 'revived'].map((note) => loop.create(copy, 'EVENT', event(type, note)));
  await loop.sync(copy, connection(user, 'phone'));
  await loop.sync(other, connection(user, 'laptop'));
  assert.equal((await fetch(`${process.env.IDEM_RESTORE_URL}/backup`)).status, 200);
  loop.update(copy, edited, { notes: 'edited once' });
  await loop.sync(copy, connection(user, 'phone'));
  loop.update(copy, edited, { notes: 'edited twice' });
  for (const id of [gone, revived]) loop.remove(copy, id);
  await loop.sync(copy, connection(user, 'phone'));
  // This row is deleted on another device, and this device has received the deletion.
  loop.remove(other, heard);
  await loop.sync(other, connection(user, 'laptop'));
  await loop.sync(copy, connection(user, 'phone'));
  assert.deepEqual(notes(copy), ['edited twice', 'run']);
  assert.equal((await fetch(`${process.env.IDEM_RESTORE_URL}/restore`)).status, 200);
  assert.equal(await user.countEvents(), 4);
  // After the restore another client edits this event, which the backup still has. It is not deleted again.
  const query = 'mutation($id: ID!, $n: String!) { updateEvent(input: { id: $id, patch: { notes: $n } }) { result { version } } }';
  for (const n of ['once more', 'and again']) await user.ask(query, { id: revived, n });
  // The deletion is not in the outbox any more, and is not reported as refused.
  await loop.sync(copy, connection(user, 'phone'));
  assert.deepEqual([notes(copy), copy.refused, copy.outbox], [['and again', 'edited twice', 'run'], [], []]);
  assert.equal((await user.ask('query($id: ID!) { event(id: $id) { notes } }', { id: edited })).event.notes, 'edited twice');
  assert.equal(await user.countEvents(), 2);
});

test('the loop: a cursor that is none starts a bootstrap', async () => {
  const user = newUser();
  const copy = loop.emptyCopy();
  loop.create(copy, 'EVENT_TYPE', runType);
  await loop.sync(copy, connection(user, 'phone'));
  copy.cursor = 'nonsense';
  copy.rows.set(newId(), { entity: 'EVENT', version: 1, fields: { notes: 'of another server' } });
  await loop.sync(copy, connection(user, 'phone'));
  assert.deepEqual(notes(copy), ['run']);
});

test('the loop: a token that was refused is renewed once', async () => {
  const user = newUser();
  const asked = [];
  const token = async (renew) => { asked.push(renew); return renew ? user.token : 'expired'; };
  const copy = loop.emptyCopy();
  await loop.sync(copy, { ...connection(user, 'phone'), token });
  assert.deepEqual(asked, [false, true]);
});

test('the loop: an edit waits with its create, and what names something waits with it', async () => {
  const user = newUser();
  const copy = loop.emptyCopy();
  const type = loop.create(copy, 'EVENT_TYPE', runType);
  await loop.sync(copy, connection(user, 'phone'));
  // The clock is ten minutes ahead, so the creates are rejected as retryable.
  const early = idMaker(() => Date.now() + 600_000);
  const id = loop.create(copy, 'EVENT', event(type, 'a'), early());
  loop.update(copy, id, { notes: 'b' });
  const ahead = loop.create(copy, 'EVENT_TYPE', { name: 'walk', color: null }, early());
  const named = loop.create(copy, 'EVENT', event(ahead, 'named'));
  const other = loop.create(copy, 'EVENT', event(type, 'other'));
  await loop.sync(copy, connection(user, 'phone'));
  loop.update(copy, id, { notes: 'c' });
  await loop.sync(copy, connection(user, 'phone'));
  assert.equal(await user.countEvents(), 1, 'the independent event is stored');
  assert.deepEqual([copy.refused, copy.rows.get(id).fields.notes, copy.rows.has(other)], [[], 'c', true]);
  assert.deepEqual(copy.outbox.map((queued) => queued.id), [id, id, ahead, named, id]);
  const waits = copy.outbox.map(({ notBefore }) => notBefore - Date.now()).filter((wait) => wait > 0);
  assert.ok(waits.length > 0 && waits.every((wait) => wait > 500_000 && wait < 600_000), String(waits));
});

test('the loop: ids of a clock that was days ahead are made anew, with all that names them', async () => {
  const user = newUser();
  const copy = loop.emptyCopy();
  const far = idMaker(() => Date.now() + 3 * 86_400_000);
  const type = loop.create(copy, 'EVENT_TYPE', runType, far());
  const id = loop.create(copy, 'EVENT', event(type, 'a'), far());
  loop.update(copy, id, { notes: 'b' });
  await eventually('all of it is stored', async () => {
    await loop.sync(copy, connection(user, 'phone'));
    return copy.outbox.length === 0;
  });
  assert.deepEqual([notes(copy), copy.refused, await user.countEvents()], [['b', 'run'], [], 1]);
  assert.ok(!copy.rows.has(type) && !copy.rows.has(id));
});

test('the loop: edits and deletions go through though the clock was ahead once', async () => {
  const user = newUser();
  const copy = loop.emptyCopy();
  const type = loop.create(copy, 'EVENT_TYPE', runType);
  const [id, gone] = [loop.create(copy, 'EVENT', event(type, 'a')), loop.create(copy, 'EVENT', event(type, 'gone'))];
  await loop.sync(copy, connection(user, 'phone'));
  // The clock of the device was two minutes ahead, and the device does not store its last edit id.
  for (const each of [id, gone]) {
    copy.lastEdit = editIdAfter(null, () => Date.now() + 120_000);
    loop.update(copy, each, { notes: 'ahead' });
  }
  await loop.sync(copy, connection(user, 'phone'));
  copy.lastEdit = null;
  loop.update(copy, id, { notes: 'right' });
  loop.remove(copy, gone);
  await loop.sync(copy, connection(user, 'phone'));
  assert.deepEqual([notes(copy), await user.countEvents(), copy.outbox], [['right', 'run'], 1, []]);
});

test('the loop: an edit that is taken for an old one is made once more', async () => {
  const user = newUser();
  const copy = loop.emptyCopy();
  const type = loop.create(copy, 'EVENT_TYPE', runType);
  const id = loop.create(copy, 'EVENT', event(type, 'a'));
  await loop.sync(copy, connection(user, 'phone'));
  // Another client has used the client id of this device, with a later edit id.
  const query = 'mutation($i: UpdateEventInput!) { updateEvent(input: $i) { result { outcome } } }';
  const elsewhere = { id, patch: { notes: 'elsewhere' }, clientId: 'phone', editId: editIdAfter(null, () => Date.now() + 120_000) };
  await user.ask(query, { i: elsewhere });
  loop.update(copy, id, { notes: 'here', timestamp: '2026-01-02T03:04:06Z' });
  await loop.sync(copy, connection(user, 'phone'));
  const stored = await user.ask('query($id: ID!) { event(id: $id) { notes version } }', { id });
  assert.deepEqual([stored.event, copy.outbox, copy.refused], [{ notes: 'here', version: 3 }, [], []]);
});

test('the loop: a refused edit leaves the row as the server has it, with the edits behind it', async () => {
  const user = newUser();
  const copy = loop.emptyCopy();
  const type = loop.create(copy, 'EVENT_TYPE', runType);
  const id = loop.create(copy, 'EVENT', event(type, 'a'));
  await loop.sync(copy, connection(user, 'phone'));
  loop.update(copy, id, { notes: 'x'.repeat(10_001) });
  await loop.sync(copy, connection(user, 'phone'));
  assert.deepEqual([notes(copy), copy.outbox], [['a', 'run'], []]);
  assert.deepEqual(copy.refused.map(({ problem }) => problem.code), ['TOO_LONG']);
});

test('the loop: what was refused can be mended, and a row whose deletion was refused is there again', async () => {
  const user = newUser();
  const [copy, other] = [loop.emptyCopy(), loop.emptyCopy()];
  const type = loop.create(copy, 'EVENT_TYPE', runType);
  const id = loop.create(copy, 'EVENT', event(type, 'x'.repeat(10_001)));
  await loop.sync(copy, connection(user, 'phone'));
  assert.equal(await user.countEvents(), 0);
  loop.update(copy, id, { notes: 'short' });
  await loop.sync(copy, connection(user, 'phone'));
  assert.deepEqual([await user.countEvents(), notes(copy), copy.outbox], [1, ['run', 'short'], []]);
  // Another device creates an event of the type that is deleted here.
  await loop.sync(other, connection(user, 'laptop'));
  loop.create(other, 'EVENT', event(type, 'other'));
  await loop.sync(other, connection(user, 'laptop'));
  loop.remove(copy, id);
  loop.remove(copy, type);
  await loop.sync(copy, connection(user, 'phone'));
  assert.deepEqual(copy.refused.map(({ problem }) => problem.code), ['TOO_LONG', 'EVENT_TYPE_IN_USE']);
  assert.deepEqual([copy.rows.has(type), copy.removed.has(type)], [true, false]);
});

test('the ids of the manual have the layout of RFC 9562; those of things follow the clock, those of edits grow', () => {
  const ones = 2n ** 64n - 1n;
  const times = [];
  const drawn = [];
  const make = idMaker(() => times.shift(), () => drawn.shift());
  const next = (time, start, rest) => { times.push(time); drawn.push([start, rest]); return make(); };
  // This is the example of RFC 9562, appendix A.6, except that the counter starts in the lower half.
  assert.equal(next(0x017f22e279b0, 0x4c3n, 0x18c4dc0c0c07398fn), '017f22e2-79b0-74c3-98c4-dc0c0c07398f');
  assert.equal(next(0x017f22e279b1, ones, ones), '017f22e2-79b1-77ff-bfff-ffffffffffff');
  assert.equal(next(0x017f22e279b1, 0n, 0n), '017f22e2-79b1-7800-8000-000000000000');
  assert.equal(next(0x017f22e279a0, 0n, 0n), '017f22e2-79a0-7000-8000-000000000000', 'the clock is set back');
  const many = Array.from({ length: 10_000 }, () => newId());
  assert.deepEqual(many.toSorted(), many);
  assert.equal(new Set(many).size, many.length);
  const edit = (last, time) => editIdAfter(last, () => time, () => [0n, 0n]);
  const far = edit(null, 0xffff00000000);
  assert.deepEqual([far, edit(far, 0)], ['ffff0000-0000-7000-8000-000000000000', 'ffff0000-0000-7001-8000-000000000000']);
  assert.equal(edit('017f22e2-79b0-7fff-98c4-dc0c0c07398f', 0), '017f22e2-79b1-7000-8000-000000000000', 'after a restart');
  assert.equal(edit('017f22e2-79b0-7fff-98c4-dc0c0c07398f', 0x017f22e279b5), '017f22e2-79b5-7000-8000-000000000000');
  // Swift and Kotlin are not run here, so their code is only checked for the same numbers.
  const parts = ['<<12', '0x7ff', '0x2000', '0x3fffffffffffffff', '0x8000000000000000', '015', '016', '-7', 'last+1', 'before+1'];
  for (const language of ['swift', 'kotlin']) {
    const plain = blocks(language)[0].replace(/[\s_]/g, '').replaceAll('shl', '<<')
      .replaceAll('Long.MINVALUE', '0x8000000000000000');
    for (const part of parts) assert.ok(plain.includes(part), `${language} lacks ${part}`);
  }
});

test('the table of close codes has the codes that are tried', async () => {
  const tried = (await readFile(path.join(here, 'sockets.mjs'), 'utf8')).matchAll(/^ {2}\[(\d{4}), /gm);
  const documented = (await page('reference/close-codes.md')).matchAll(/^\| (1009|44\d\d) \|/gm);
  const codes = (found) => [...new Set([...found].map(([, code]) => code))].sort();
  assert.deepEqual(codes(documented), codes(tried));
});

test('the commands of the manual answer as it says', async () => {
  const env = { ...process.env, IDEM_URL: server, IDEM_TOKEN: tokenOf(`user-${newId()}`) };
  const commands = blocks('sh');
  const answers = blocks('json');
  assert.ok(commands.length >= 5);
  assert.equal(answers.length, commands.length, 'each command has its answer behind it');
  for (const [place, command] of commands.entries()) {
    let said;
    const fits = async () => {
      const { stdout } = await run('bash', ['-euc', command], { cwd: folder, env });
      said = stdout;
      return same(stdout, answers[place]);
    };
    // The import runs in the background, so its state is requested until it is the one in the documentation.
    await (command.includes('importJob(') ? eventually(command, fits) : fits())
      .then((held) => assert.ok(held, `${command}\nsays\n${said}\nnot\n${answers[place]}`));
  }
});

/** Whether an output equals the documented one. `…` matches anything, and white space is ignored. */
function same(said, shown) {
  const plain = (text) => text.replace(/\s+/g, '');
  const pattern = plain(shown).replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll('…', '.*?');
  return new RegExp(`^${pattern}$`).test(plain(said));
}
