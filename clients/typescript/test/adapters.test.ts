// The adapters for TanStack DB and React, each with the real library.
import 'fake-indexeddb/auto';

import { createCollection } from '@tanstack/db';
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';

import { useEventTypes, useEvents, useSyncStatus } from '../src/react/index.js';
import { eventCollectionOptions, eventTypeCollectionOptions } from '../src/tanstack/index.js';
import { closeDevices, cut, openDevice } from './support/device.js';
import { Server, eventually } from './support/server.js';

let server: Server;
let users = 0;
const newUser = () => `adapters-${users += 1}`;
beforeAll(async () => { server = await Server.start(); });
afterEach(closeDevices);
afterAll(() => server.end());

const at = '2026-01-02T03:04:05.000Z';

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
