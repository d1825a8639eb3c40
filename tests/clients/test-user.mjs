// Shared by the client tests: users and their tokens, requests without a client library, waiting for a
// condition, and a proxy whose connections can be cut. It must not import a client library.
import { createHmac } from 'node:crypto';
import net from 'node:net';

import { newId } from './id.mjs';

export { newId };

/** The URL of the server. Each test has its own user, so that it sees no rows of another test. */
export const server = required('IDEM_URL');
const secret = required('IDEM_SECRET');

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: tests/suite/clients.rs runs these files`);
  return value;
}

/** Returns a token of this subject that is valid for an hour. */
export function tokenOf(subject) {
  const now = Math.floor(Date.now() / 1000);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: subject, iat: now, exp: now + 3600 })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** Returns a new user: the token, and functions that send requests as this user. */
export function newUser() {
  const token = tokenOf(`user-${newId()}`);
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };

  /** Sends a request and returns its `data`. Throws if the response has errors. */
  async function ask(query, variables = {}) {
    const body = JSON.stringify({ query, variables });
    const response = await fetch(`${server}/graphql`, { method: 'POST', headers, body });
    const result = await response.json();
    if (result.errors) throw new Error(JSON.stringify(result));
    return result.data;
  }

  /** Creates an event type and returns its id. */
  async function newType(name = `type ${newId()}`) {
    const data = await ask(
      'mutation($name: String) { createEventType(input: { eventType: { name: $name } }) { result { eventType { id } } } }',
      { name },
    );
    return data.createEventType.result.eventType.id;
  }

  /** Creates an event for each note in one call, each a day later than the one before. Returns their ids. */
  async function newEvents(eventTypeId, notes) {
    const events = notes.map((note, day) => ({
      id: newId(), eventTypeId, notes: note, timestamp: new Date(Date.UTC(2026, 0, 1 + day)).toISOString(),
    }));
    await ask('mutation($events: [EventInput!]!) { createEvents(input: { events: $events }) { created } }', { events });
    return events.map(({ id }) => id);
  }

  /** Returns how many events the user has that are not deleted. */
  const countEvents = async () => (await ask('{ events { totalCount } }')).events.totalCount;

  return { token, headers, ask, newType, newEvents, countEvents };
}

/** Waits until `holds` returns a truthy value, and returns it. Throws an error with `what` after 20 s. */
export async function eventually(what, holds) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within 20 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Opens a proxy to the server. `cut` destroys all open connections, as a lost network does. */
export async function openProxy() {
  const { hostname, port } = new URL(server);
  const open = new Set();
  const listener = net.createServer((client) => {
    const upstream = net.connect(Number(port), hostname);
    for (const [socket, other] of [[client, upstream], [upstream, client]]) {
      open.add(socket);
      socket.on('error', () => {}).on('close', () => { open.delete(socket); other.destroy(); });
      socket.pipe(other);
    }
  });
  await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const cut = () => { for (const socket of open) socket.destroy(); };
  return {
    url: `http://127.0.0.1:${listener.address().port}`,
    cut,
    close: () => { cut(); return new Promise((resolve) => listener.close(resolve)); },
  };
}
