// The adapter for TanStack DB, with the real library.
import { createCollection } from '@tanstack/db';
import { expect, test } from 'vitest';

import { eventCollectionOptions, eventTypeCollectionOptions } from '../src/tanstack/index.js';
import { openDevice } from './support/device.js';
import { eventually } from './support/server.js';
import { newUser, server } from './support/suite.js';

const at = '2026-01-02T03:04:05.000Z';

test('optimistic writes become durable, and other devices follow', async () => {
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
