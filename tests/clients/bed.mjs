// What the client tests share: whom they speak as, plain requests beside the client under test, waiting
// for a condition, and a connection that can be cut. Knows no client library.
import { createHmac } from 'node:crypto';
import net from 'node:net';

import { newId } from './id.mjs';

export { newId };

/** Where the server of this run is. Every test speaks as a user of its own, so none sees another's rows. */
export const server = required('IDEM_URL');
const secret = required('IDEM_SECRET');

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: these files are run by tests/suite/clients.rs`);
  return value;
}

/** A token of this subject, for an hour. */
export function tokenOf(subject) {
  const now = Math.floor(Date.now() / 1000);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: subject, iat: now, exp: now + 3600 })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** A user nobody else is: their token, and plain requests as them. */
export function newUser() {
  const token = tokenOf(`user-${newId()}`);
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };

  /** The data of an answer without errors. */
  async function ask(query, variables = {}) {
    const body = JSON.stringify({ query, variables });
    const response = await fetch(`${server}/graphql`, { method: 'POST', headers, body });
    const answer = await response.json();
    if (answer.errors) throw new Error(JSON.stringify(answer));
    return answer.data;
  }

  /** Makes an event type; its id. */
  async function newType(name = `type ${newId()}`) {
    const data = await ask(
      'mutation($name: String) { createEventType(input: { eventType: { name: $name } }) { result { eventType { id } } } }',
      { name },
    );
    return data.createEventType.result.eventType.id;
  }

  /** Creates events of a type in one call, one a note, each a day later than the one before; their ids. */
  async function newEvents(eventTypeId, notes) {
    const events = notes.map((note, day) => ({
      id: newId(), eventTypeId, notes: note, timestamp: new Date(Date.UTC(2026, 0, 1 + day)).toISOString(),
    }));
    await ask('mutation($events: [EventInput!]!) { createEvents(input: { events: $events }) { created } }', { events });
    return events.map(({ id }) => id);
  }

  /** How many living events the database has of this user. */
  const countEvents = async () => (await ask('{ events { totalCount } }')).events.totalCount;

  return { token, headers, ask, newType, newEvents, countEvents };
}

/** Waits until `holds` returns something true, and returns it; fails with `what` after 20 s. */
export async function eventually(what, holds) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within 20 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A way to the server that can be cut: `cut` destroys every open connection, as a lost network does. */
export async function openWire() {
  const { hostname, port } = new URL(server);
  const open = new Set();
  const gate = net.createServer((near) => {
    const far = net.connect(Number(port), hostname);
    for (const [socket, other] of [[near, far], [far, near]]) {
      open.add(socket);
      socket.on('error', () => {}).on('close', () => { open.delete(socket); other.destroy(); });
      socket.pipe(other);
    }
  });
  await new Promise((resolve) => gate.listen(0, '127.0.0.1', resolve));
  const cut = () => { for (const socket of open) socket.destroy(); };
  return {
    url: `http://127.0.0.1:${gate.address().port}`,
    cut,
    close: () => { cut(); return new Promise((resolve) => gate.close(resolve)); },
  };
}
