// Runs the vectors that all kits share. With WRITE_VECTORS=1 what this kit does is written into the files, to be read
// by a person before it is committed.
import { readFileSync, writeFileSync } from 'node:fs';

import { afterAll, expect, test } from 'vitest';

import { digestOf } from '../src/api/digest.js';
import { Copy } from '../src/core/copy.js';
import { editIdAfter, idMaker, isUuidV7 } from '../src/core/ids.js';
import { type Context, type Entry, type Page, type Result, type Row, newInstallation } from '../src/core/model.js';
import { applyPage, due } from '../src/core/pull.js';
import { settle } from '../src/core/settle.js';

const writes = process.env.WRITE_VECTORS !== undefined;
const pathOf = (name: string) => new URL(`../../vectors/${name}`, import.meta.url);
const read = (name: string) => JSON.parse(readFileSync(pathOf(name), 'utf8'));
const [outcomes, ids, digests, pulls] = ['outcomes.json', 'ids.json', 'digest.json', 'pull.json'].map(read);

afterAll(() => {
  if (!writes) return;
  for (const [name, vectors] of [['outcomes.json', outcomes], ['ids.json', ids], ['pull.json', pulls]] as const) {
    writeFileSync(pathOf(name), `${JSON.stringify(vectors, null, 2)}\n`);
  }
});

const NOW_MS = 1_767_323_045_000;

/** New ids are counted, so that the vectors can name them. */
function countingContext(): Context {
  let [made, edits] = [0, 0];
  const counted = (prefix: string, number: number) => `${prefix}-${String(number).padStart(12, '0')}`;
  return {
    nowMs: NOW_MS, serverNowMs: NOW_MS - 1_000, merge: ({ patch }) => patch,
    newId: () => counted('01890000-0000-7000-8aaa', made += 1), newEditId: () => counted('01890000-0000-7000-8bbb', edits += 1),
  };
}

/** What changed in a copy, in the order of ids and places. */
function changesOf(copy: Copy) {
  const { rows, removedRows, entries, removedEntries, refusals } = copy.changes();
  const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
  return JSON.parse(JSON.stringify({
    rows: rows.sort(byId), removedRows: removedRows.sort(),
    entries: entries.sort((a, b) => a.seq - b.seq), removedEntries: removedEntries.sort((a, b) => a - b),
    refusals: refusals.map(({ seq, problem, input }) => ({ seq, code: problem.code, input })),
    renamed: copy.notices.flatMap((notice) => (notice.type === 'renamed' ? [[notice.from, notice.to]] : [])),
  }));
}

interface OutcomeCase { name: string; rows: Row[]; entries: Entry[]; results: Result[]; after: object }

test.for(outcomes.cases as OutcomeCase[])('$name', (vector) => {
  const context = countingContext();
  const copy = new Copy({ rows: vector.rows, entries: vector.entries, installation: { ...newInstallation('device'), nextSeq: 100 } });
  vector.entries.forEach((entry, index) => settle(copy, entry, structuredClone(vector.results[index]!), context));
  const after = changesOf(copy);
  if (writes) vector.after = after;
  expect(after).toEqual(vector.after);
});

interface PullCase { name: string; rows: Row[]; entries: Entry[]; page: Page; after: object; due: number[] }

test.for(pulls.cases as PullCase[])('a page: $name', (vector) => {
  const context = countingContext();
  const copy = new Copy({ rows: vector.rows, entries: vector.entries, installation: newInstallation('device') });
  applyPage(copy, structuredClone(vector.page), context);
  const { cursor, round, isBootstrapping, resend } = copy.installation;
  const after = { ...changesOf(copy), installation: { cursor, round, isBootstrapping, resend } };
  const sent = due(copy.entries(), NOW_MS).map(({ seq }) => seq);
  if (writes) Object.assign(vector, { after, due: sent });
  expect([after, sent]).toEqual([vector.after, vector.due]);
});

test.for(ids.texts as { text: string; code: string | null }[])('the id $text', ({ text, code }) => {
  expect(isUuidV7(text)).toBe(code === null);
});

interface EditIdCase { last: string | null; nowMs: number; random: [string, string]; id: string }

test.for(ids.editIds as EditIdCase[])('the edit id after $last', (vector) => {
  const [start, rest] = vector.random.map((digits) => BigInt(`0x${digits}`)) as [bigint, bigint];
  const id = editIdAfter(vector.last, vector.nowMs, () => [start, rest]);
  if (writes) vector.id = id;
  expect(id).toBe(vector.id);
  expect(isUuidV7(id)).toBe(true);
  expect(vector.last === null || id > vector.last).toBe(true);
});

test.for(ids.eventIds as { name: string; timesMs: number[]; random: string; ids: string[] }[])('$name', (vector) => {
  const times = [...vector.timesMs];
  const newId = idMaker(() => times.shift()!, () => [BigInt(`0x${vector.random}`), 0n]);
  const made = vector.timesMs.map(() => newId());
  if (writes) vector.ids = made;
  expect(made).toEqual(vector.ids);
});

test.for(digests.cases as { name: string; rows: { id: string; version: number }[]; buckets: object[] }[])('the digest of $name', async ({ rows, buckets }) => {
  expect(await digestOf(rows)).toEqual(buckets);
});
