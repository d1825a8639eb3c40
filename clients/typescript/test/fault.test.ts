import { expect, test } from 'vitest';
import { bundlePage } from './storm/bundle.js';
import { FAULTS } from './storm/faults.js';
import { runStorm } from './storm/storm.js';
import { Server } from './support/server.js';
const max = Number(process.env.STORMS ?? 50);
test.for(FAULTS)('the fault is found: $name', { timeout: 3_600_000 }, async (fault) => {
  const server = await Server.start();
  const script = await bundlePage(fault);
  let seed = 0; let found: string | undefined;
  for (seed = 1; seed <= max && !found; seed += 1) {
    const r = await runStorm({ seed, script, servers: [server] }).catch((error: Error) => ({ faults: [error.message], writes: 0 }));
    found = r.faults[0];
  }
  await server.end();
  console.log(fault.name, seed - 1, found?.slice(0, 600));
  expect(found).toBeDefined();
});
