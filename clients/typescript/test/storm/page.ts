// The page of a storm: the kit, and a function for each thing that a user does. It runs in the browser.
import { openDB } from 'idb';

import { type IdemEvent, createIdem } from '../../src/index.js';
import { databaseName } from '../../src/storage/index.js';

const { subject, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1))) as { subject: string; token: string };
/** The clock of the device, which all its tabs share: a storm sets it ahead and back. A worker has no such storage. */
const clock = () => Date.now() + Number(globalThis.localStorage?.getItem('clock') ?? 0);
const idem = createIdem({ url: location.origin, subject, token: () => token, clock });

/** What a user did: the row, the fields, and whether the row was made, changed, deleted or brought back. */
export interface Done {
  kind: 'create' | 'update' | 'remove' | 'restore' | 'none';
  /** Names the event for the storm: its id may change. Absent for types. */
  token?: string;
  fields?: { [name: string]: unknown };
  /** The last edit id of the installation after that; null before the first. */
  lastEdit?: string | null;
}

/** `choice`: a number from 0 to below 1 that chooses among the rows of this device. */
export interface Deed {
  deed: 'create' | 'createBad' | 'createType' | 'update' | 'remove' | 'removeAndRestore';
  choice: number;
  text: string;
}

const at = (choice: number) => new Date(Date.UTC(2026, 0, 1) + Math.floor(choice * 86_400_000)).toISOString();
const pick = <T>(items: readonly T[], choice: number): T | undefined => items[Math.floor(choice * items.length)];

async function act(deed: Deed): Promise<Done> {
  const done = await perform(deed);
  return { ...done, lastEdit: await lastEdit() };
}

/** The counter of edit ids, as it is stored. */
async function lastEdit(): Promise<string | null> {
  const database = await openDB(databaseName(location.origin, null, subject));
  const installation = await database.get('values', 'installation');
  database.close();
  return installation?.lastEdit ?? null;
}

async function perform({ deed, choice, text }: Deed): Promise<Done> {
  if (deed === 'createType') {
    await idem.types.create({ name: text });
    return { kind: 'create' };
  }
  if (deed === 'create' || deed === 'createBad') {
    const type = pick(await idem.types.list(), choice);
    if (!type) return { kind: 'none' };
    const notes = deed === 'create' ? text : `${text} ${'x'.repeat(10_001)}`;
    await idem.events.create({ eventTypeId: type.id, timestamp: at(choice), notes, properties: { token: text } });
    return { kind: 'create', token: text, fields: { notes } };
  }
  const event = pick(await idem.events.list(), choice);
  if (!event || event.sync === 'refused') return { kind: 'none' };
  const { id } = event;
  const token = String(event.properties.token);
  if (deed === 'update') {
    const fields = choice * 1_000 % 2 < 1 ? { notes: text } : { timeZone: pick(['Europe/Berlin', 'Asia/Tokyo', 'America/Lima'], choice * 7 % 1)! };
    await idem.events.update(id, fields);
    return { kind: 'update', token, fields };
  }
  await idem.events.remove(id);
  if (deed === 'remove') return { kind: 'remove', token };
  await idem.events.restore(event);
  return { kind: 'restore', token, fields: { notes: event.notes, timeZone: event.timeZone } };
}

/** What the device has: its events, the ids of refused writes, and what it still has to send. */
async function state() {
  const events: readonly IdemEvent[] = await idem.events.list();
  const refused = await idem.refused.list();
  return {
    events: events.filter(({ sync }) => sync !== 'refused').map(({ id, version, notes, timeZone, properties }) => ({ id, version, notes, timeZone, token: properties.token })),
    refused: refused.map(({ kind, fields, problem }) => ({
      kind, code: problem.code, token: (fields.properties as { token?: unknown } | undefined)?.token, fields: { notes: fields.notes, timeZone: fields.timeZone },
    })),
    status: idem.status,
  };
}

const setClock = (ms: number) => localStorage.setItem('clock', String(ms));

const app = { act, state, setClock, status: () => idem.status, isLeader: () => idem.status.leader, sync: () => idem.sync(), verify: () => idem.verify() };
export type App = typeof app;
declare global {
  var app: App;
}
globalThis.app = app;
