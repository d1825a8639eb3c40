// Sync of devices with a real server, over a network that is cut and loses answers.
import { expect, test } from 'vitest';

import { connected, cut, openDevice } from './support/device.js';
import { eventually } from './support/server.js';
import { newUser, server } from './support/suite.js';

const at = '2026-01-02T03:04:05.000Z';

test('what two devices write offline is on both after they sync', async () => {
  const user = newUser();
  const [phone, laptop] = [openDevice(server, user, { network: cut }), openDevice(server, user, { network: cut })];
  const run = await phone.idem.types.create({ name: 'Run' });
  const walk = await laptop.idem.types.create({ name: 'Walk' });
  await phone.idem.events.create({ eventTypeId: run.id, timestamp: at, notes: 'phone' });
  await laptop.idem.events.create({ eventTypeId: walk.id, timestamp: at, notes: 'laptop' });
  expect(phone.idem.status.pending).toBe(2);
  for (const device of [phone, laptop]) {
    device.network = connected;
    device.idem.sync();
  }
  await eventually('both have both', async () => `${await phone.notes()}` === 'laptop,phone' && `${await laptop.notes()}` === 'laptop,phone');
  await phone.settled();
  expect((await phone.idem.verify()).differing).toEqual({ EVENT: [], EVENT_TYPE: [] });
  expect([...phone.refused, ...laptop.refused]).toEqual([]);
});

test('an answer that is lost after the commit stores nothing twice and undoes no later edit', async () => {
  const user = newUser();
  const phone = openDevice(server, user);
  const run = await phone.idem.types.create({ name: 'Run' });
  const event = await phone.idem.events.create({ eventTypeId: run.id, timestamp: at, notes: 'first' });
  await phone.settled();
  let lost = 0;
  phone.network = async (send, { body }) => {
    const response = await send();
    if (!body.includes('applyMutations') || lost === 2) return response;
    lost += 1;
    throw new TypeError('fetch failed');
  };
  await phone.idem.events.update(event.id, { notes: 'second' });
  await eventually('an answer is lost', () => lost > 0);
  await phone.idem.events.update(event.id, { notes: 'third' });
  await phone.settled();
  expect(lost).toBe(2);
  const { events } = await server.ask(user, '{ events { nodes { notes version } } }');
  expect(events.nodes).toEqual([{ notes: 'third', version: 3 }]);
  expect(await phone.idem.events.get(event.id)).toMatchObject({ notes: 'third', version: 3, sync: 'synced' });
});
