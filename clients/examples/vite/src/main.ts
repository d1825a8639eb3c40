// A diary that works offline. Open it as /?url=http://127.0.0.1:8080&token=… once; it remembers both.
import { type IdemEvent, createIdem } from '@idem/client';

const given = new URLSearchParams(location.search);
for (const name of ['url', 'token']) {
  const value = given.get(name);
  if (value) localStorage.setItem(name, value);
}
if (given.size > 0) history.replaceState(null, '', '/');
const url = localStorage.getItem('url') ?? 'http://127.0.0.1:8080';
const token = localStorage.getItem('token') ?? '';
const subject: string = token ? JSON.parse(atob(token.split('.')[1]!.replaceAll('-', '+').replaceAll('_', '/'))).sub : 'nobody';

const idem = createIdem({ url, subject, token: () => token });
const part = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;

function showStatus(): void {
  const { online, pending, needsToken, storage } = idem.status;
  part('status').className = online ? 'online' : 'offline';
  const waiting = pending > 0 ? `, ${pending} to send` : '';
  part('status').textContent = storage ? `storage: ${storage}` : needsToken ? 'sign in again' : `${online ? 'online' : 'offline'}${waiting}`;
}

function line(text: string, time: string, ...actions: [string, () => unknown][]): HTMLLIElement {
  const item = document.createElement('li');
  item.append(Object.assign(document.createElement('time'), { textContent: time }));
  item.append(Object.assign(document.createElement('span'), { textContent: text }));
  for (const [name, onclick] of actions) item.append(Object.assign(document.createElement('button'), { textContent: name, onclick }));
  return item;
}

const names = new Map<string, string>();
let shown: readonly IdemEvent[] = [];

function showEvents(): void {
  part('events').replaceChildren(...shown.map((event) => {
    const text = [names.get(event.eventTypeId), event.notes].filter(Boolean).join(': ');
    const item = line(text, new Date(event.timestamp).toLocaleString([], { dateStyle: 'short', timeStyle: 'short' }), ['Delete', () => idem.events.remove(event.id)]);
    item.className = event.sync;
    return item;
  }));
}

async function showRefused(): Promise<void> {
  const refused = await idem.refused.list();
  part('refused').replaceChildren(...refused.map(({ key, problem }) =>
    line(`Not stored: ${problem.detail ?? problem.code}`, '', ['Discard', () => idem.refused.discard(key)])));
}

idem.onStatus(() => {
  showStatus();
  void showRefused();
});
idem.types.live((types) => {
  for (const { id, name } of types) names.set(id, name);
  showEvents();
});
idem.events.live({ limit: 100 }, (events) => {
  shown = events;
  showEvents();
});
showStatus();
void showRefused();

part<HTMLFormElement>('add').addEventListener('submit', async (submitted) => {
  submitted.preventDefault();
  const form = submitted.target as HTMLFormElement;
  const { type: name, notes } = Object.fromEntries(new FormData(form)) as { type: string; notes: string };
  const known = (await idem.types.list()).find((type) => type.name === name.trim());
  const { id } = known ?? await idem.types.create({ name });
  await idem.events.create({ eventTypeId: id, timestamp: new Date(), notes: notes || null });
  form.reset();
});

// The worker keeps what the page fetches from now on; what it has loaded already is fetched once more.
if (navigator.serviceWorker && import.meta.env.PROD) {
  await navigator.serviceWorker.register('/worker.js');
  if (!navigator.serviceWorker.controller) await new Promise((resolve) => navigator.serviceWorker.addEventListener('controllerchange', resolve, { once: true }));
  const loaded = performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => name.startsWith(location.origin));
  await Promise.all(['/', ...loaded].map((address) => fetch(address)));
}
