// Storms in real browsers, on SQLite, or with two servers on the PostgreSQL of support/server.ts. STORMS is their number, FIRST_STORM the first seed; a failed seed is replayed by FIRST_STORM.
// STORM_LOG names a file that keeps the seeds that are done, so that a run can be resumed.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { bundlePage } from './storm/bundle.js';
import { runStorm } from './storm/storm.js';
import { Server } from './support/server.js';

const count = Number(process.env.STORMS ?? 3);
const first = Number(process.env.FIRST_STORM ?? 1);
const log = process.env.STORM_LOG;
const done = new Set(log && existsSync(log) ? readFileSync(log, 'utf8').split('\n').map(Number) : []);
const seeds = Array.from({ length: count }, (_, index) => first + index).filter((seed) => !done.has(seed));

let servers: Server[];
let script: string;
beforeAll(async () => {
  servers = [await Server.start()];
  if (process.env.SERVER_POSTGRES) servers.push(await Server.start());
  script = await bundlePage();
});
afterAll(() => Promise.all(servers.map((server) => server.end())));

test.for(seeds)('after the storm of seed %i all have the same, and nothing is lost or stored twice', { timeout: 240_000 }, async (seed) => {
  const { faults, writes } = await runStorm({ seed, script, servers });
  expect(faults).toEqual([]);
  // A storm in which nothing could be written would prove nothing.
  expect(writes).toBeGreaterThan(20);
  if (log) appendFileSync(log, `${seed}\n`);
});
