// Live queries, and tabs of one user that share a database.
import 'fake-indexeddb/auto';

import { expect, test } from 'vitest';

import type { IdemEvent } from '../src/index.js';
import { PendingWritesError } from '../src/index.js';
import { databaseName, indexedDbStorage } from '../src/storage/index.js';
import { connected, cut, openDevice } from './support/device.js';
import { eventually } from './support/server.js';
import { newUser, server } from './support/suite.js';

const minute = (number: number) => new Date(Date.UTC(2026, 0, 1, 0, number)).toISOString();

/** The notes of a live list as they are now. */
const notesOf = (events: readonly IdemEvent[] | undefined) => events?.map(({ notes }) => notes);

test('a live list follows creates, edits and deletions, and keeps events that did not change', async () => {
  const phone = openDevice(server, newUser(), { network: cut });
  const [run, walk] = [await phone.idem.types.create({ name: 'Run' }), await phone.idem.types.create({ name: 'Walk' })];
  const shown: (readonly IdemEvent[])[] = [];
  const list = phone.idem.events.live({ from: minute(1), to: minute(9), eventTypeIds: [run.id, walk.id], limit: 3 }, (rows) => shown.push(rows));
  await eventually('it is read', () => list.rows);
  const at = (number: number, notes: string, eventTypeId = run.id) => phone.idem.events.create({ eventTypeId, timestamp: minute(number), notes });
  const [two, four] = [await at(2, 'two'), await at(4, 'four')];
  await at(0, 'before');
  await at(9, 'after');
  await eventually('both are shown', () => String(notesOf(list.rows)) === 'four,two');
  const kept = list.rows![0];
  await phone.idem.events.update(two.id, { notes: 'two again' });
  await eventually('the edit is shown', () => String(notesOf(list.rows)) === 'four,two again');
  expect(list.rows![0]).toBe(kept);
  await at(6, 'six', walk.id);
  await at(3, 'three');
  await eventually('the newest three are shown', () => String(notesOf(list.rows)) === 'six,four,three' && list.hasMore);
  await phone.idem.events.remove(four.id);
  await eventually('the next one moves in', () => String(notesOf(list.rows)) === 'six,three,two again');
  await phone.idem.events.update(two.id, { timestamp: minute(8) });
  await eventually('a moved one is first', () => String(notesOf(list.rows)) === 'two again,six,three');
  const count = shown.length;
  list.close();
  await at(7, 'seven');
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(shown.length).toBe(count);
});

test('a live list grows, and finds text whatever its case', async () => {
  const phone = openDevice(server, newUser(), { network: cut });
  const type = await phone.idem.types.create({ name: 'Run' });
  await phone.idem.events.createMany(Array.from({ length: 500 }, (_, number) =>
    ({ eventTypeId: type.id, timestamp: minute(number), notes: number % 100 === 7 ? `ΠΑΣΧΑ ${number}` : `plain ${number}` })));
  const list = phone.idem.events.live({ limit: 100 });
  await eventually('it is read', () => list.rows?.length === 100);
  list.loadMore(250);
  await eventually('it has grown', () => list.rows?.length === 350);
  list.loadMore(250);
  await eventually('it has all', () => list.rows?.length === 500 && !list.hasMore);
  const found = phone.idem.events.live({ search: 'πας' });
  await eventually('it is found', () => String(notesOf(found.rows)) === 'ΠΑΣΧΑ 407,ΠΑΣΧΑ 307,ΠΑΣΧΑ 207,ΠΑΣΧΑ 107,ΠΑΣΧΑ 7');
});

/** Two tabs of a user: two clients on one database. */
function openTabs(user: string) {
  const name = databaseName(server.url, null, user);
  return [1, 2].map(() => openDevice(server, user, { storage: indexedDbStorage(name) })) as [ReturnType<typeof openDevice>, ReturnType<typeof openDevice>];
}

test('one tab syncs for all, and all show each change', async () => {
  const user = newUser();
  const [first, second] = openTabs(user);
  await eventually('one leads', () => first.idem.status.leader !== second.idem.status.leader);
  const follower = first.idem.status.leader ? second : first;
  const leader = follower === first ? second : first;
  follower.network = cut;
  const list = leader.idem.events.live({});
  const type = await follower.idem.types.create({ name: 'Run' });
  const event = await follower.idem.events.create({ eventTypeId: type.id, timestamp: minute(1), notes: 'from the follower' });
  await eventually('the leader shows and sends it', () => list.rows?.[0]?.sync === 'synced');
  await eventually('the follower knows', async () => (await follower.idem.events.get(event.id))?.sync === 'synced' && follower.idem.status.pending === 0);
  expect(follower.idem.status).toMatchObject({ leader: false, online: true });
  // The other tab takes over when the leader is closed.
  leader.idem.close();
  follower.network = connected;
  await eventually('it leads', () => follower.idem.status.leader);
  await follower.idem.events.update(event.id, { notes: 'again' });
  await follower.settled();
  expect((await server.ask(user, '{ events { nodes { notes } } }')).events.nodes).toEqual([{ notes: 'again' }]);
});

test('a restarted app goes on where it stopped, and its edit ids ascend though the clock went back', async () => {
  const user = newUser();
  const open = (clock: () => number, network = connected) =>
    openDevice(server, user, { storage: indexedDbStorage(databaseName(server.url, null, user)), clock, network });
  const before = open(() => Date.now() + 3_600_000);
  const type = await before.idem.types.create({ id: before.idem.newId(), name: 'Run' });
  await before.settled();
  before.network = cut;
  const event = await before.idem.events.create({ eventTypeId: type.id, timestamp: minute(1), notes: 'one' });
  await before.idem.events.update(event.id, { notes: 'two' });
  before.idem.close();
  const after = open(() => Date.now() - 86_400_000, cut);
  await eventually('it remembers', () => after.idem.status.pending === 2);
  await after.idem.events.update(event.id, { notes: 'three' });
  after.network = connected;
  after.idem.sync();
  await after.settled();
  expect((await server.ask(user, '{ events { nodes { notes } } }')).events.nodes).toEqual([{ notes: 'three' }]);
});

test('signing out refuses to lose writes, and erases the data of this user alone', async () => {
  const [user, other] = [newUser(), newUser()];
  const open = (subject: string) => openDevice(server, subject, { network: cut, storage: indexedDbStorage(databaseName(server.url, null, subject)) });
  const [phone, kept] = [open(user), open(other)];
  for (const { idem } of [phone, kept]) await idem.types.create({ name: 'Run' });
  await expect(phone.idem.signOut()).rejects.toThrow(PendingWritesError);
  await phone.idem.signOut({ discard: true });
  // The client that was signed out writes nothing more.
  await expect(phone.idem.types.create({ name: 'late' })).rejects.toThrow('closed');
  expect(await open(user).idem.types.list()).toEqual([]);
  expect((await kept.idem.types.list()).map(({ name }) => name)).toEqual(['Run']);
});

test('statistics of the server are there without a network, with the time of the answer', async () => {
  const phone = openDevice(server, newUser());
  const type = await phone.idem.types.create({ name: 'Run' });
  await phone.idem.events.create({ eventTypeId: type.id, timestamp: minute(1), properties: { value: 5, unit: 'km' } });
  await phone.settled();
  const question = { timeZone: 'Europe/Berlin', granularity: 'DAY', measures: [{ property: 'value' }] } as const;
  const answer = await phone.idem.stats({ ...question, measures: [...question.measures] });
  expect(answer.total).toMatchObject({ count: 1, measures: [{ unit: 'km', sum: 5 }] });
  phone.network = cut;
  expect(await phone.idem.stats({ ...question, measures: [...question.measures] })).toEqual(answer);
  await expect(phone.idem.stats({ timeZone: 'Asia/Kolkata' })).rejects.toThrow();
});
