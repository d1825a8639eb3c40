// The loop of docs/guides/offline-client.md on devices whose server fails over to a standby that had not received everything.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

import { newUser, server } from './test-user.mjs';

const run = promisify(execFile);
const here = import.meta.dirname;
const folder = await mkdtemp(path.join(tmpdir(), 'idem-failover-'));
test.after(() => rm(folder, { recursive: true }));
const flags = ['--strict', '--noUncheckedIndexedAccess', '--target', 'es2023', '--module', 'nodenext', '--allowJs', '--types', ''];
await run(path.join(here, 'node_modules/.bin/tsc'), [...flags, '--outDir', folder, path.join(here, 'loop.ts')])
  .catch(({ stdout }) => assert.fail(stdout));
await run('cp', [path.join(folder, 'loop.js'), path.join(folder, 'loop.mjs')]);
const loop = await import(pathToFileURL(path.join(folder, 'loop.mjs')));

const resets = [];
const recordingFetch = async (url, request) => {
  const response = await fetch(url, request);
  const text = await response.text();
  for (const [, reset] of text.matchAll(/"reset":"(\w+)"/g)) resets.push(reset);
  return new Response(text, { status: response.status, headers: response.headers });
};
const connection = (user, clientId) =>
  ({ url: server, clientId, token: async () => user.token, fetch: recordingFetch, backoffMs: 20 });
const control = async (what) => assert.equal((await fetch(`${process.env.IDEM_CONTROL_URL}/${what}`)).status, 200);
const event = (eventTypeId, notes) => ({ eventTypeId, timestamp: '2026-01-02T03:04:05.000Z', notes });
const notes = (copy) => [...copy.rows.values()].map(({ fields }) => fields.notes ?? fields.name).sort();

test('devices send again the creates, edits and deletions that a failover lost, and each is reset', async () => {
  const user = newUser();
  const [phone, laptop, tablet] = [loop.emptyCopy(), loop.emptyCopy(), loop.emptyCopy()];
  const type = loop.create(phone, 'EVENT_TYPE', { name: 'run', color: null });
  const before = Array.from({ length: 15 }, (_, n) => loop.create(phone, 'EVENT', event(type, `before ${n}`)));
  await loop.sync(phone, connection(user, 'phone'));
  await loop.sync(laptop, connection(user, 'laptop'));
  await control('cut');
  // All of the following is acknowledged, and the standby does not receive it.
  for (let n = 0; n < 10; n += 1) loop.create(phone, 'EVENT', event(type, `lost ${n}`));
  for (const id of before.slice(0, 3)) loop.update(phone, id, { notes: `edited ${id}` });
  for (const id of before.slice(3, 5)) loop.remove(phone, id);
  await loop.sync(phone, connection(user, 'phone'));
  loop.remove(laptop, before[5]);
  loop.create(laptop, 'EVENT', event(type, 'of the laptop'));
  await loop.sync(laptop, connection(user, 'laptop'));
  await loop.sync(phone, connection(user, 'phone'));
  const all = notes(phone);
  assert.equal(all.length, 1 + 15 - 3 + 10 + 1);
  assert.deepEqual([notes(laptop), resets], [all, []]);
  await control('promote');
  // The new primary assigns the same positions again.
  const late = Array.from({ length: 15 }, (_, n) => `late ${n}`);
  await loop.sync(tablet, connection(user, 'tablet'));
  const known = [...tablet.rows].find(([, { entity }]) => entity === 'EVENT_TYPE')[0];
  for (const note of late) loop.create(tablet, 'EVENT', event(known, note));
  await loop.sync(tablet, connection(user, 'tablet'));
  for (const [copy, name] of [[phone, 'phone'], [laptop, 'laptop'], [tablet, 'tablet'], [phone, 'phone'], [laptop, 'laptop']]) {
    await loop.sync(copy, connection(user, name));
  }
  assert.ok(resets.filter((reset) => reset === 'EPOCH_CHANGED').length >= 2, `each device is reset: ${resets}`);
  const wanted = [...all, ...late].sort();
  for (const copy of [phone, laptop, tablet]) assert.deepEqual([notes(copy), copy.outbox, copy.refused], [wanted, [], []]);
  assert.equal(await user.countEvents(), wanted.length - 1);
});
