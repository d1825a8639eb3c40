// The page of a storm: the kit, and a function for each thing that a user does. It runs in the browser.
import { type IdemEvent, createIdem } from '../../src/index.js';

const { subject, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1))) as { subject: string; token: string };
const idem = createIdem({ url: location.origin, subject, token: () => token });

/** What a user did: the row, the fields, and whether the row was made, changed, deleted or brought back. */
export interface Done {
  kind: 'create' | 'update' | 'remove' | 'restore' | 'none';
  id?: string;
  fields?: { [name: string]: unknown };
}

/** `choice`: a number from 0 to below 1 that chooses among the rows of this device. */
export interface Deed {
  deed: 'create' | 'createBad' | 'createType' | 'update' | 'remove' | 'removeAndRestore';
  choice: number;
  text: string;
}

const at = (choice: number) => new Date(Date.UTC(2026, 0, 1) + Math.floor(choice * 86_400_000)).toISOString();
const pick = <T>(items: readonly T[], choice: number): T | undefined => items[Math.floor(choice * items.length)];

async function act({ deed, choice, text }: Deed): Promise<Done> {
  if (deed === 'createType') {
    const { id } = await idem.types.create({ name: text });
    return { kind: 'create', id };
  }
  if (deed === 'create' || deed === 'createBad') {
    const type = pick(await idem.types.list(), choice);
    if (!type) return { kind: 'none' };
    const notes = deed === 'create' ? text : `${text} ${'x'.repeat(10_001)}`;
    const event = await idem.events.create({ eventTypeId: type.id, timestamp: at(choice), notes, properties: { token: text } });
    return { kind: 'create', id: event.id, fields: { notes } };
  }
  const event = pick(await idem.events.list(), choice);
  if (!event || event.sync === 'refused') return { kind: 'none' };
  const { id } = event;
  if (deed === 'update') {
    const fields = choice * 1_000 % 2 < 1 ? { notes: text } : { timeZone: pick(['Europe/Berlin', 'Asia/Tokyo', 'America/Lima'], choice * 7 % 1)! };
    await idem.events.update(id, fields);
    return { kind: 'update', id, fields };
  }
  await idem.events.remove(id);
  if (deed === 'remove') return { kind: 'remove', id };
  await idem.events.restore(event);
  return { kind: 'restore', id, fields: { notes: event.notes, timeZone: event.timeZone } };
}

/** What the device has: its events, the ids of refused writes, and what it still has to send. */
async function state() {
  const events: readonly IdemEvent[] = await idem.events.list();
  const refused = await idem.refused.list();
  return {
    events: events.filter(({ sync }) => sync !== 'refused').map(({ id, version, notes, timeZone, properties }) => ({ id, version, notes, timeZone, token: properties.token })),
    refused: refused.map(({ id, kind, fields, problem }) => ({ id, kind, fields: { notes: fields.notes, timeZone: fields.timeZone }, code: problem.code })),
    status: idem.status,
  };
}

const app = { act, state, status: () => idem.status, isLeader: () => idem.status.leader, sync: () => idem.sync(), verify: () => idem.verify() };
export type App = typeof app;
declare global {
  var app: App;
}
globalThis.app = app;
