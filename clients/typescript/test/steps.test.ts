// Single steps of sync, with answers that come at a moment which a real server hits only by chance.
import { expect, test, vi } from 'vitest';

import { createIdem } from '../src/index.js';
import { create, update } from '../src/core/write.js';
import { type Storage, StorageError, memoryStorage } from '../src/storage/index.js';
import { Device } from '../src/sync/device.js';
import { flush } from '../src/sync/flush.js';
import { completePull, pullPage } from '../src/sync/pull.js';
import { type Endpoint, send } from '../src/transport/http.js';
import { eventually } from './support/server.js';

const ID = '01890000-0000-7000-8000-000000000011';
const BAD = '01890000-0000-7000-8000-000000000012';
const TYPE = '01890000-0000-7000-8000-000000000001';
const at = '2026-01-02T03:04:05.000Z';
const signal = new AbortController().signal;

const deviceOn = (storage: Storage, merge = ({ patch }: { patch: object }) => patch as any) => new Device(storage, merge, Date.now, () => {}, () => {});

/** An endpoint whose requests `answer` answers with JSON. */
const endpointOf = (answer: (body: any) => unknown): Endpoint =>
  ({ url: 'http://server', subject: 'ann', issuer: null, token: () => 'opaque', fetch: async (_input, init) => Response.json(await answer(JSON.parse(String(init!.body)))) });

test('an entry of the second half of a refused batch waits for one of the first half', async () => {
  const device = deviceOn(memoryStorage());
  await device.commit({}, (copy, context) => {
    create(copy, 'EVENT', { id: ID, eventTypeId: TYPE, timestamp: at }, context);
    create(copy, 'EVENT', { id: BAD, eventTypeId: TYPE, timestamp: at }, context);
    update(copy, 'EVENT', ID, { notes: 'later' }, context);
  });
  const sent: string[][] = [];
  const endpoint = endpointOf(({ variables }) => {
    const kinds = variables.input.mutations.map((mutation: object) => Object.keys(mutation)[0]);
    sent.push(kinds);
    const isBad = JSON.stringify(variables).includes(BAD);
    if (isBad) return { data: null, errors: [{ message: 'shape', extensions: { code: 'BAD_USER_INPUT' } }] };
    const problem = { code: 'ID_IN_FUTURE', detail: null, retryable: true, retryAfterMs: 60_000, errors: [] };
    return { data: { applyMutations: { results: kinds.map(() => ({ outcome: 'REJECTED', version: null, differs: false, problem })) } } };
  });
  await flush(device, endpoint, 0, signal);
  expect(sent.at(-1)).not.toContain('updateEvent');
  const queued = await device.storage.read((tx) => tx.entriesFrom(0, 9));
  expect(queued.map(({ kind }) => kind)).toEqual(['createEvent', 'updateEvent']);
  expect((await device.storage.read((tx) => tx.refusals())).map(({ id }) => id)).toEqual([BAD]);
});

test('a page that was asked for before the cursor was reset is not taken, and ends no bootstrap', async () => {
  const device = deviceOn(memoryStorage());
  await device.commit({}, (copy) => {
    copy.putRow({ id: ID, entity: 'EVENT', version: 1, fields: { eventTypeId: TYPE, timestamp: at }, pending: 0, round: 1 });
    copy.installation.cursor = 'before';
  });
  const reset = () => device.commit({}, ({ installation }) => Object.assign(installation, { cursor: null, round: 2, isBootstrapping: true }));
  const endpoint = endpointOf(async () => {
    await reset();
    return { data: { changes: { cursor: 'after', hasMore: false, reset: null, serverTime: at, changes: [] } } };
  });
  expect(await pullPage(device, endpoint, 0, signal)).toBe(null);
  expect(await completePull(device, 0, 'after')).toBe(false);
  const { installation, rows } = await device.storage.read(async (tx) => ({ installation: await tx.installation(), rows: await tx.rows([ID]) }));
  expect(installation).toMatchObject({ cursor: null, isBootstrapping: true });
  expect(rows[0]!.fields).not.toBe(null);
});

test('a leader that another has replaced writes nothing', async () => {
  const device = deviceOn(memoryStorage());
  await device.commit({}, ({ installation }) => { installation.term = 2; });
  const late = device.commit({}, ({ installation }) => { installation.cursor = 'late'; }, { term: 1 });
  await expect(late).rejects.toThrow();
  expect((await device.storage.read((tx) => tx.installation()))!.cursor).toBe(null);
});

test('a merge of the app that throws is reported, and the fields of this device win', () => {
  const reported: (() => void)[] = [];
  const spy = vi.spyOn(globalThis, 'queueMicrotask').mockImplementation((report) => { reported.push(report); });
  const device = deviceOn(memoryStorage(), () => { throw new Error('bug of the app'); });
  const patch = { notes: 'mine' };
  expect(device.context().merge({ entity: 'EVENT', id: ID, kind: 'updateEvent', patch, base: null, theirs: {} })).toEqual(patch);
  spy.mockRestore();
  expect(reported).toHaveLength(1);
  expect(reported[0]!).toThrow('bug of the app');
});

test('nothing is written to data that are about to be deleted', async () => {
  const storage = memoryStorage();
  const [tab, other] = [deviceOn(storage), deviceOn(storage)];
  await tab.commit({}, ({ installation }) => { installation.isSignedOut = true; });
  await expect(other.commit({}, (copy, context) => create(copy, 'EVENT', { id: ID, eventTypeId: TYPE, timestamp: at }, context))).rejects.toThrow('closed');
  expect(await storage.read((tx) => tx.rows([ID]))).toEqual([]);
});

test('requests that are refused at the same time renew the token once', async () => {
  let renewals = 0;
  let current = 'old';
  const endpoint: Endpoint = {
    url: 'http://server', subject: 'ann', issuer: null,
    token: async ({ renew }) => {
      if (renew) {
        renewals += 1;
        await new Promise((resolve) => setTimeout(resolve, 20));
        current = 'new';
      }
      return current;
    },
    fetch: async (_input, init) =>
      (new Headers(init!.headers).get('authorization') === 'Bearer new' ? Response.json({ data: { ok: true } }) : new Response('', { status: 401 })),
  };
  expect(await Promise.all([1, 2, 3].map(() => send(endpoint, '{ ok }', {})))).toEqual([{ ok: true }, { ok: true }, { ok: true }]);
  expect(renewals).toBe(1);
});

const offline = () => Promise.reject(new TypeError('fetch failed'));

test('a sign-out that was cut before the data were deleted is finished at the next start', async () => {
  const storage = memoryStorage();
  const cut: Storage = { ...storage, erase: () => new Promise(() => {}) };
  const before = createIdem({ url: 'http://server', subject: 'ann', token: () => null, fetch: offline, storage: cut });
  await before.types.create({ name: 'Run' });
  void before.signOut({ discard: true });
  await eventually('it has begun', async () => (await storage.read((tx) => tx.installation()))?.isSignedOut);
  const after = createIdem({ url: 'http://server', subject: 'ann', token: () => null, fetch: offline, storage });
  await after.types.create({ name: 'Walk' });
  expect((await after.types.list()).map(({ name }) => name)).toEqual(['Walk']);
  after.close();
});

test('a write that does not fit shows in the status, also without a network', async () => {
  const storage = memoryStorage();
  let isFull = false;
  const small: Storage = { ...storage, write: (work, durability) => (isFull ? Promise.reject(new StorageError('full')) : storage.write(work, durability)) };
  const idem = createIdem({ url: 'http://server', subject: 'ann', token: () => null, fetch: offline, storage: small });
  // The leader has begun, so nothing else is written meanwhile.
  await eventually('it has no token', () => idem.status.needsToken);
  isFull = true;
  await expect(idem.types.create({ name: 'Walk' })).rejects.toThrow('full');
  expect(idem.status.storage).toBe('full');
  isFull = false;
  await idem.types.create({ name: 'Swim' });
  expect(idem.status.storage).toBe(null);
  idem.close();
});

test('a transaction that was under way does not hide that a newer version has taken the database', async () => {
  const storage = memoryStorage();
  let isTaken = false;
  let finish: () => void = () => {};
  const held = new Promise<void>((resolve) => { finish = resolve; });
  const taken: Storage = {
    ...storage,
    write: async (work, durability) => {
      if (isTaken) throw new StorageError('outdated');
      const result = await storage.write(work, durability);
      if (isHeld) await held;
      return result;
    },
  };
  let isHeld = false;
  const idem = createIdem({ url: 'http://server', subject: 'ann', token: () => null, fetch: offline, storage: taken });
  await eventually('it has no token', () => idem.status.needsToken);
  isHeld = true;
  const underWay = idem.types.create({ name: 'Run' });
  await eventually('it is stored', async () => (await storage.read((tx) => tx.eventTypes())).length === 1);
  isTaken = true;
  await expect(idem.types.create({ name: 'Walk' })).rejects.toThrow('outdated');
  finish();
  await underWay;
  expect(idem.status.storage).toBe('outdated');
  idem.close();
});

test('a function of the app that throws stops nothing here', async () => {
  const reported: unknown[] = [];
  const spy = vi.spyOn(globalThis, 'queueMicrotask').mockImplementation((report) => { reported.push(report); });
  const idem = createIdem({ url: 'http://server', subject: 'ann', token: () => null, fetch: offline, storage: memoryStorage() });
  idem.onStatus(() => { throw new Error('bug of the app'); });
  await idem.types.create({ name: 'Run' });
  expect((await idem.types.list()).length).toBe(1);
  idem.close();
  spy.mockRestore();
  expect(reported.length).toBeGreaterThan(0);
});
