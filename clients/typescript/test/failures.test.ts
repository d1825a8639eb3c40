// What the kit does when the network, the server, the token or another server's answers fail.
import { expect, test } from 'vitest';

import type { Network } from './support/device.js';
import { connected, cut, openDevice } from './support/device.js';
import { Server, eventually, tokenOf } from './support/server.js';
import { newUser, server } from './support/suite.js';

const at = '2026-01-02T03:04:05.000Z';
const json = (value: unknown, status = 200, headers: HeadersInit = {}) => new Response(JSON.stringify(value), { status, headers: { 'content-type': 'application/json', ...headers } });

/** Answers the first flushes with these, whatever the server would say, and passes on everything else. */
function answering(...answers: (() => Response | Promise<Response>)[]): Network & { asked: number[] } {
  const asked: number[] = [];
  return Object.assign((async (send, { body }) => {
    if (!body.includes('applyMutations')) return send();
    asked.push(Date.now());
    const answer = answers.shift();
    return answer ? answer() : send();
  }) as Network, { asked });
}

/** A device with a type and a queued event, which meets these answers. */
async function sending(network: Network) {
  const user = newUser();
  const phone = openDevice(server, user);
  const type = await phone.idem.types.create({ name: 'Run' });
  await phone.settled();
  phone.network = network;
  await phone.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'sent' });
  return { user, phone, type };
}

test.for([
  ['the page of a Wi-Fi network', () => new Response('<html>Sign in</html>', { headers: { 'content-type': 'text/html' } }), 'foreign'],
  ['half an answer', () => new Response('{"data":{"applyMutations":{"resu', { headers: { 'content-type': 'application/json' } }), 'foreign'],
  ['JSON of somebody else', () => json({ hello: 'world' }), 'foreign'],
  ['an answer with fewer results', () => json({ data: { applyMutations: { results: [] } } }), 'foreign'],
  ['an answer with more results', () => json({ data: { applyMutations: { results: [{ outcome: 'CREATED' }, { outcome: 'CREATED' }] } } }), 'foreign'],
  ['no data', () => json({ data: null }), 'foreign'],
  ['status 502', () => new Response('bad gateway', { status: 502 }), 'busy'],
  ['UNAVAILABLE', () => json({ data: null, errors: [{ message: 'no', extensions: { code: 'UNAVAILABLE', problem: { retryable: true } } }] }), 'busy'],
  ['no connection', () => Promise.reject(new TypeError('fetch failed')), 'offline'],
] as const)('after %s the same is sent again, and stored once', async ([, answer, problem]) => {
  const seen: (string | null)[] = [];
  const network = answering(answer, answer);
  const user = newUser();
  const phone = openDevice(server, user);
  phone.idem.onStatus((status) => seen.push(status.problem));
  const type = await phone.idem.types.create({ name: 'Run' });
  await phone.settled();
  phone.network = network;
  await phone.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'sent' });
  await phone.settled();
  expect(seen).toContain(problem);
  expect((await server.ask(user, '{ events { nodes { notes } } }')).events.nodes).toEqual([{ notes: 'sent' }]);
  expect(phone.idem.status).toMatchObject({ online: true, problem: null, refused: 0 });
});

test('a server that asks to wait is not asked before that', async () => {
  const network = answering(() => json({ errors: [{ message: 'slow down' }] }, 429, { 'retry-after': '2' }));
  const { phone } = await sending(network);
  await eventually('it was asked', () => network.asked.length === 1);
  // Neither writes nor the app make it come earlier.
  await phone.idem.types.create({ name: 'Walk' });
  phone.idem.sync();
  await phone.settled();
  expect(network.asked[1]! - network.asked[0]!).toBeGreaterThanOrEqual(2_000);
});

test('writes do not hurry the next try after a failure', async () => {
  const failing: Network & { count?: number } = async () => {
    failing.count = (failing.count ?? 0) + 1;
    throw new TypeError('fetch failed');
  };
  const { phone, type } = await sending(failing);
  await eventually('it has failed', () => failing.count);
  for (let number = 0; number < 50; number += 1) await phone.idem.events.create({ eventTypeId: type.id, timestamp: at });
  expect(failing.count).toBeLessThan(10);
  phone.network = connected;
  phone.idem.sync();
  await phone.settled();
});

test('an outcome of a later version is decided by retryable', async () => {
  const unknown = (retryable: boolean) => () => json({ data: { applyMutations: { results: [
    { outcome: 'POSTPONED', version: null, differs: false, problem: { code: 'FUTURE_CODE', detail: null, retryable, retryAfterMs: 10, errors: [] } },
  ] } } });
  const { phone, user } = await sending(answering(unknown(true), unknown(true)));
  await phone.settled();
  expect((await server.ask(user, '{ events { totalCount } }')).events.totalCount).toBe(1);
  const { phone: other } = await sending(answering(unknown(false)));
  await other.settled();
  expect((await other.idem.refused.list()).map(({ problem }) => problem.code)).toEqual(['FUTURE_CODE']);
});

test('it opens, reads and writes without a token, and sends once there is one', async () => {
  const user = newUser();
  let token: string | null = null;
  const phone = openDevice(server, user, { token: () => token });
  const type = await phone.idem.types.create({ name: 'Run' });
  await phone.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'early' });
  await eventually('it asks for a token', () => phone.idem.status.needsToken);
  expect(await phone.notes()).toEqual(['early']);
  token = tokenOf(user);
  phone.idem.sync();
  await phone.settled();
  expect(phone.idem.status).toMatchObject({ needsToken: false, pending: 0 });
});

test('a refused token is renewed once, and then the app is asked to sign in', async () => {
  const user = newUser();
  let [current, fresh]: [string, string | null] = [tokenOf(user, -600), tokenOf(user)];
  let renewals = 0;
  const phone = openDevice(server, user, {
    token: ({ renew }) => {
      if (renew) {
        renewals += 1;
        current = fresh ?? current;
      }
      return current;
    },
  });
  const type = await phone.idem.types.create({ name: 'Run' });
  await eventually('it is sent', () => phone.idem.status.pending === 0);
  expect(renewals).toBe(1);
  [current, fresh] = [tokenOf(user, -600), null];
  await phone.idem.events.create({ eventTypeId: type.id, timestamp: at });
  await eventually('it asks to sign in', () => phone.idem.status.needsToken);
  expect(phone.idem.status).toMatchObject({ pending: 1, online: false, problem: 'noToken' });
});

test('nothing is sent with the token of another user', async () => {
  const [user, other] = [newUser(), newUser()];
  const phone = openDevice(server, user, { token: () => tokenOf(other) });
  await phone.idem.types.create({ name: 'Run' });
  await eventually('it tells', () => phone.idem.status.problem === 'wrongUser');
  expect((await server.ask(other, '{ eventTypes { totalCount } }')).eventTypes.totalCount).toBe(0);
  expect(phone.idem.status.pending).toBe(1);
});

test('one write of a shape that the server does not know is found by halves, and the others go through', async () => {
  const { phone, type, user } = await sending(cut);
  const bad = await phone.idem.events.create({ eventTypeId: type.id, timestamp: at, notes: 'newer' });
  await phone.idem.events.createMany(Array.from({ length: 20 }, (_, number) => ({ eventTypeId: type.id, timestamp: at, notes: `${number}` })));
  // What a newer version of the kit might send.
  phone.network = (send, { body }) => send(body.replace('"notes":"newer"', '"colour":"red"'));
  await phone.settled();
  expect((await phone.idem.refused.list()).map(({ id, problem }) => [id, problem.code])).toEqual([[bad.id, 'BAD_USER_INPUT']]);
  expect((await server.ask(user, '{ events { totalCount } }')).events.totalCount).toBe(21);
});

test('an outbox of more items and bytes than one request may have is sent in parts', async () => {
  const { phone, type, user } = await sending(cut);
  const properties = { text: 'ü'.repeat(7_000) };
  await phone.idem.events.createMany(Array.from({ length: 1_100 }, (_, number) => ({ eventTypeId: type.id, timestamp: at, ...(number % 2 ? { properties } : {}) })));
  phone.network = connected;
  await phone.settled();
  expect((await server.ask(user, '{ events { totalCount } }')).events.totalCount).toBe(1_101);
  expect((await phone.idem.verify()).differing).toEqual({ EVENT: [], EVENT_TYPE: [] });
});

test('a proxy that takes only small bodies gets small ones', async () => {
  const { phone, type, user } = await sending(cut);
  await phone.idem.events.createMany(Array.from({ length: 300 }, () => ({ eventTypeId: type.id, timestamp: at, notes: 'x'.repeat(1_000) })));
  let refused = 0;
  phone.network = async (send, { body }) => {
    if (body.length < 100_000) return send();
    refused += 1;
    return new Response('<html>413 Request Entity Too Large</html>', { status: 413, headers: { 'content-type': 'text/html' } });
  };
  phone.idem.sync();
  await phone.settled();
  expect(refused).toBeGreaterThan(0);
  expect((await server.ask(user, '{ events { totalCount } }')).events.totalCount).toBe(301);
  expect(phone.refused).toEqual([]);
});

test('a network that brings only small requests through gets small ones', async () => {
  const { phone, type, user } = await sending(cut);
  await phone.idem.events.createMany(Array.from({ length: 300 }, () => ({ eventTypeId: type.id, timestamp: at })));
  phone.network = (send, { body }) => (body.length < 30_000 ? send() : Promise.reject(new TypeError('fetch failed')));
  phone.idem.sync();
  await phone.settled();
  expect((await server.ask(user, '{ events { totalCount } }')).events.totalCount).toBe(301);
});

test('a server that is killed in the middle of a flush has every write once', async () => {
  const own = await Server.start();
  const user = newUser();
  const phone = openDevice(own, user, { network: cut });
  const type = await phone.idem.types.create({ name: 'Run' });
  const created = await phone.idem.events.createMany(Array.from({ length: 2_000 }, () => ({ eventTypeId: type.id, timestamp: at })));
  let flushes = 0;
  phone.network = async (send, { body }) => {
    if (body.includes('applyMutations') && (flushes += 1) === 2) setTimeout(() => void own.kill().then(() => own.start()), 5);
    return send();
  };
  phone.idem.sync();
  await phone.settled();
  const { events } = await own.ask(user, '{ events { totalCount } }');
  expect(events.totalCount).toBe(created.length);
  expect((await phone.idem.verify()).differing).toEqual({ EVENT: [], EVENT_TYPE: [] });
  await own.end();
});
