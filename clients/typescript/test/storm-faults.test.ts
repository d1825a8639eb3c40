// Puts each fault into the kit, and expects that one of the first storms finds it. STORMS is how many there are at most.
import { afterAll, beforeAll, expect, test } from 'vitest';

import { bundlePage } from './storm/bundle.js';
import { FAULTS } from './storm/faults.js';
import { runStorm } from './storm/storm.js';
import { Server } from './support/server.js';

const stormsMax = Number(process.env.STORMS ?? 50);

let server: Server;
beforeAll(async () => { server = await Server.start(); });
afterAll(() => server.end());

test.for(FAULTS)('storms find the fault: $name', { timeout: 3_600_000 }, async (fault) => {
  const script = await bundlePage(fault);
  let found: string | undefined;
  for (let seed = 1; seed <= stormsMax && found === undefined; seed += 1) {
    const report = await runStorm({ seed, script, servers: [server] }).catch((error: Error) => ({ faults: [error.message] }));
    found = report.faults[0];
    if (found !== undefined) console.log(`${fault.name}: found by seed ${seed}: ${found.slice(0, 300)}`);
  }
  expect(found).toBeDefined();
});
