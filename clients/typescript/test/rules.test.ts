// Rules of the core that a real server shows only by chance: the answers are given.
import { expect, test } from 'vitest';

import { Copy } from '../src/core/copy.js';
import { type Context, type Entry, type Problem, type Result, type Row, newInstallation } from '../src/core/model.js';
import { resentWrite, settleResent } from '../src/core/resend.js';
import { settle } from '../src/core/settle.js';
import { create, discard, remove, restore, sendAgain, update } from '../src/core/write.js';
import { backoffMs } from '../src/transport/backoff.js';

const TYPE = '01890000-0000-7000-8000-000000000001';
const ID = '01890000-0000-7000-8000-000000000011';
const at = '2026-01-02T03:04:05.000Z';

function contextOf(): Context {
  let made = 0;
  const next = () => `01890000-0000-7000-8bbb-${String(made += 1).padStart(12, '0')}`;
  return { nowMs: 1_000, serverNowMs: 1_000, merge: ({ patch }) => patch, newId: next, newEditId: next };
}

const copyOf = (rows: Row[] = [], entries: Entry[] = []) => new Copy({ rows, entries, installation: newInstallation('device') });
const event = (version: number, notes: string | null, more: Partial<Row> = {}): Row =>
  ({ id: ID, entity: 'EVENT', version, fields: notes === null ? null : { eventTypeId: TYPE, timestamp: at, notes }, pending: 0, round: 1, ...more });
const answer = (outcome: string, more: Partial<Result> = {}): Result => ({ outcome, version: null, differs: false, problem: null, stored: null, ...more });
const refusal: Problem = { code: 'TOO_LONG', detail: null, retryable: false, retryAfterMs: null };

test('a conflict with an older version than was acknowledged waits for a pull, which tells of a lost epoch', () => {
  const copy = copyOf([event(7, 'acknowledged')]);
  update(copy, 'EVENT', ID, { notes: 'mine' }, contextOf());
  const older = answer('CONFLICT', { version: 4, stored: { id: ID, eventTypeId: TYPE, timestamp: at, notes: 'old' } });
  settle(copy, copy.entries()[0]!, older, contextOf());
  expect([copy.entries()[0]!.doubt, copy.row(ID)!.version]).toEqual(['asked', 7]);
});

test('a deletion that the server lost together with edits is made again in the version that it has', () => {
  const copy = copyOf([event(6, null, { deletedAt: 1 })]);
  const write = resentWrite(copy, copy.row(ID)!, 'deletedEvents', contextOf())!;
  expect(write.input.expectedVersion).toBe(5);
  settleResent(copy, write, answer('CONFLICT', { version: 3, stored: { id: ID, eventTypeId: TYPE, timestamp: at, notes: 'old' } }), contextOf());
  expect(copy.entries().map(({ kind, input }) => [kind, input.expectedVersion])).toEqual([['deleteEvent', 3]]);
  expect(copy.row(ID)).toMatchObject({ fields: null, pending: 1 });
});

test('a deletion that somebody has undone since is not made again', () => {
  const copy = copyOf([event(6, null, { deletedAt: 1 })]);
  const write = resentWrite(copy, copy.row(ID)!, 'deletedEvents', contextOf())!;
  settleResent(copy, write, answer('CONFLICT', { version: 8, stored: { id: ID, eventTypeId: TYPE, timestamp: at } }), contextOf());
  expect(copy.entries()).toEqual([]);
});

test('own edits before an own deletion are not refused when their answer was lost', () => {
  const copy = copyOf([event(1, 'first')]);
  update(copy, 'EVENT', ID, { notes: 'second' }, contextOf());
  remove(copy, 'EVENT', ID, contextOf());
  const [edit, deletion] = copy.entries();
  settle(copy, edit!, answer('DELETED', { version: 3 }), contextOf());
  settle(copy, deletion!, answer('UNCHANGED', { version: 3 }), contextOf());
  expect([copy.entries(), copy.refusals(), copy.row(ID)!.fields]).toEqual([[], [], null]);
});

test('a refused create keeps the content of a restore that came after it', () => {
  const copy = copyOf();
  create(copy, 'EVENT', { id: ID, eventTypeId: TYPE, timestamp: at, notes: 'one' }, contextOf());
  remove(copy, 'EVENT', ID, contextOf());
  restore(copy, { id: ID, eventTypeId: TYPE, timestamp: at, notes: 'two' }, contextOf());
  settle(copy, copy.entries()[0]!, answer('REJECTED', { problem: refusal }), contextOf());
  expect(copy.refusals().map(({ input }) => input.notes)).toEqual(['two']);
  expect(copy.row(ID)).toMatchObject({ refused: true, pending: 0 });
});

test('a refused row that is discarded leaves a tombstone, from which adapters learn it', () => {
  const copy = copyOf();
  create(copy, 'EVENT', { id: ID, eventTypeId: TYPE, timestamp: at }, contextOf());
  settle(copy, copy.entries()[0]!, answer('REJECTED', { problem: refusal }), contextOf());
  discard(copy, copy.refusals()[0]!, contextOf());
  expect(copy.row(ID)).toEqual({ id: ID, entity: 'EVENT', version: 0, fields: null, pending: 0, round: 1, deletedAt: 1_000 });
});

test('a renamed type is renamed in all that names it, also in what was not sent with it', () => {
  const other = '01890000-0000-7000-8000-000000000002';
  const copy = copyOf([event(0, 'queued', { fields: { eventTypeId: TYPE, timestamp: at }, base: { eventTypeId: TYPE, timestamp: at } })]);
  create(copy, 'EVENT_TYPE', { id: TYPE, name: 'Run' }, contextOf());
  copy.queue('createEvent', ID, { id: ID, eventTypeId: TYPE, timestamp: at });
  settle(copy, copy.entries()[0]!, answer('DUPLICATE', { version: 1, stored: { id: other, name: 'Run', color: null, icon: null } }), contextOf());
  expect([copy.row(ID)!.fields!.eventTypeId, copy.row(ID)!.base!.eventTypeId, copy.entries()[0]!.input.eventTypeId]).toEqual([other, other, other]);
  expect(copy.currentId(TYPE)).toBe(other);
});

test('a corrected type takes along what needs it, and leaves what is gone', () => {
  const copy = copyOf();
  create(copy, 'EVENT_TYPE', { id: TYPE, name: 'x' }, contextOf());
  settle(copy, copy.entries()[0]!, answer('REJECTED', { problem: refusal }), contextOf());
  const needs = { ...refusal, code: 'EVENT_TYPE_NOT_FOUND' };
  copy.putRefusal({ seq: 50, id: ID, kind: 'updateEvent', input: { id: ID, patch: { eventTypeId: TYPE } }, problem: needs, at: 1 });
  sendAgain(copy, copy.refusals()[0]!, { name: 'y' }, contextOf());
  expect(copy.entries().map(({ kind }) => kind)).toEqual(['createEventType']);
  expect(copy.refusals().map(({ seq }) => seq)).toEqual([50]);
});

test('waits double up to a minute, respect the server, and never overflow a timer', () => {
  const middle = () => 0.5;
  expect([1, 2, 3, 10].map((failures) => backoffMs(failures, null, middle))).toEqual([1_000, 2_000, 4_000, 60_000]);
  expect(backoffMs(1, 5_000, middle)).toBe(6_000);
  expect(backoffMs(10, 90 * 86_400_000, middle)).toBeLessThan(2 ** 31);
});
