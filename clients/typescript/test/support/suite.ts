// The server that all tests of a file share, and a new user for each test. Importing this starts and stops them.
import { afterAll, afterEach, beforeAll } from 'vitest';

import { closeDevices } from './device.js';
import { Server } from './server.js';

export let server: Server;
const file = crypto.randomUUID();
let users = 0;

/** Returns the subject of a user that no other test has, also in a database that files share. */
export const newUser = (): string => `user-${file}-${users += 1}`;

beforeAll(async () => { server = await Server.start(); });
afterEach(closeDevices);
afterAll(() => server.end());
