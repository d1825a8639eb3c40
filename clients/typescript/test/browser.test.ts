// The kit in real Chromium: its speed with many events, its storage in trouble, a worker, the hooks
// for React, and the example app, after `npm run build`.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { Chromium } from './storm/browser.js';
import { bundle } from './storm/bundle.js';
import { Network } from './storm/network.js';
import { Server, eventually, tokenOf } from './support/server.js';

const TYPES: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

let server: Server;
const browser = new Chromium();
const networks: Network[] = [];
beforeAll(async () => {
  server = await Server.start();
  await browser.start();
});
afterAll(async () => {
  await browser.end();
  for (const network of networks) await network.close();
  await server.end();
});

async function serve(files: Record<string, { type: string; body: string }>): Promise<Network> {
  const network = await Network.open(files, () => [server.url]);
  networks.push(network);
  return network;
}

async function serveScript(file: string): Promise<Network> {
  const body = await bundle(fileURLToPath(new URL(file, import.meta.url)));
  return serve({ '/': { type: 'text/html', body: '<!doctype html><script type="module" src="/page.js"></script>' }, '/page.js': { type: 'text/javascript', body } });
}

const errors: Error[] = [];
const open = (network: Network, subject: string, path = '/') =>
  browser.open(`${network.url}${path}#${new URLSearchParams({ subject, token: tokenOf(subject) })}`, (error) => errors.push(error));

/** Fills a user with events, 500 in a request. */
async function fill(subject: string, count: number): Promise<void> {
  const { createEventType } = await server.ask(subject, 'mutation { createEventType(input: { eventType: { name: "Run" } }) { result { eventType { id } } } }');
  const eventTypeId = createEventType.result.eventType.id;
  for (let start = 0; start < count; start += 500) {
    const events = Array.from({ length: 500 }, (_, index) => ({
      eventTypeId, timestamp: new Date(Date.UTC(2020, 0, 1) + (start + index) * 1_000_000).toISOString(), notes: `event ${start + index}`, properties: { value: index, unit: 'km' },
    }));
    await server.ask(subject, 'mutation($events: [EventInput!]!) { createEvents(input: { events: $events }) { created } }', { events });
  }
}

test('many events are received without a long task, writes are durable soon, and live lists follow', { timeout: 300_000 }, async () => {
  const count = Number(process.env.BOOTSTRAP_EVENTS ?? 10_000);
  await fill('measured', count);
  const network = await serveScript('browser/measured-page.ts');
  const page = await open(network, 'measured');
  const bootstrap = await page.evaluate(() => globalThis.measured.bootstrap());
  const writes = await page.evaluate(() => globalThis.measured.writes(200));
  console.log(`${count} events: received in ${bootstrap.seconds.toFixed(1)} s, longest task ${bootstrap.longestTaskMs.toFixed(0)} ms; a write is durable in ${writes.durableMs.toFixed(1)} ms and shown ${writes.shownMs.toFixed(1)} ms later at p95`);
  expect(bootstrap.progress).toBeGreaterThan(0);
  expect(errors).toEqual([]);
});

test('a full disk refuses a write with a clear error and half writes nothing, and a cleared one begins anew', { timeout: 240_000 }, async () => {
  await fill('trouble', 500);
  const network = await serveScript('storm/page.ts');
  const page = await open(network, 'trouble');
  await eventually('everything is received', () => page.evaluate(async () => (await globalThis.app.state()).events.length === 500));
  const session = await browser.context.newCDPSession(page);
  await session.send('Storage.overrideQuotaForOrigin', { origin: network.url, quotaSize: 1 });
  const refused = await page.evaluate(async () => {
    const failures: string[] = [];
    // A write that fits into what the browser has set aside still goes through.
    for (let number = 0; number < 3_000 && failures.length === 0; number += 1) {
      await globalThis.app.act({ deed: 'createBad', choice: 0, text: `${number}` }).catch((error: Error) => failures.push(`${error.name} ${error.message}`));
    }
    return { failures, status: (await globalThis.app.state()).status.storage };
  });
  expect(refused).toEqual({ failures: ['StorageError the storage of this device is full'], status: 'full' });
  await session.send('Storage.overrideQuotaForOrigin', { origin: network.url });
  await session.send('Storage.clearDataForOrigin', { origin: network.url, storageTypes: 'all' });
  await eventually('it has received everything anew', () => page.evaluate(async () => {
    globalThis.app.sync();
    const { events, status } = await globalThis.app.state();
    return events.length === 500 && status.storage === null;
  }));
  expect(await page.evaluate(() => globalThis.app.act({ deed: 'create', choice: 0, text: 'after' }))).toMatchObject({ kind: 'create' });
});

test('an older version of the app stops when a newer one needs the database', async () => {
  const network = await serveScript('storm/page.ts');
  const page = await open(network, 'versions');
  await page.evaluate(() => globalThis.app.act({ deed: 'createType', choice: 0, text: 'Run' }));
  await page.evaluate(async () => {
    const [{ name }] = (await indexedDB.databases()) as [{ name: string }];
    // The next version of the app, in another tab.
    await new Promise((resolve, reject) => Object.assign(indexedDB.open(name, 99), { onsuccess: resolve, onerror: reject, onblocked: reject }));
  });
  await eventually('it tells', () => page.evaluate(async () => globalThis.app.status().storage === 'outdated'));
  expect(await page.evaluate(() => globalThis.app.act({ deed: 'createType', choice: 0, text: 'Walk' }).catch((error: Error) => error.message))).toContain('outdated');
});

test('the hooks for React follow lists, refusals and the status', async () => {
  const network = await serveScript('browser/react-page.ts');
  const page = await open(network, 'react');
  const shows = (part: object) => eventually(`it shows ${JSON.stringify(part)}`, async () => {
    const shown = JSON.parse((await page.locator('pre').textContent())!);
    return Object.entries(part).every(([name, value]) => JSON.stringify(shown[name]) === JSON.stringify(value));
  });
  const press = (name: string) => page.getByRole('button', { name, exact: true }).click();
  await shows({ events: [], types: 0, refused: [], online: true });
  await press('add');
  await shows({ events: ['event 0'], types: 1, pending: 0 });
  await press('add');
  await shows({ events: ['event 1', 'event 0'], hasMore: false });
  await press('add');
  await shows({ events: ['event 2', 'event 1'], hasMore: true });
  await press('more');
  await shows({ events: ['event 2', 'event 1', 'event 0'], hasMore: false });
  await press('add too much');
  await shows({ refused: ['TOO_LONG'] });
  expect(errors).toEqual([]);
});

test('the kit runs in a worker', async () => {
  const body = await bundle(fileURLToPath(new URL('storm/page.ts', import.meta.url)));
  const network = await serve({
    '/': { type: 'text/html', body: '<!doctype html><title>worker</title>' },
    '/worker.js': { type: 'text/javascript', body: `${body}\nglobalThis.app.act({ deed: 'createType', choice: 0, text: 'from a worker' }).then(() => postMessage('done'));` },
  });
  const page = await open(network, 'worker');
  await page.evaluate(() => new Promise((resolve, reject) => {
    const worker = new Worker(`/worker.js${location.hash}`, { type: 'module' });
    worker.onmessage = resolve;
    worker.onerror = (event) => reject(new Error(event.message));
  }));
  await eventually('the server has it', async () => (await server.ask('worker', '{ eventTypes { nodes { name } } }')).eventTypes.nodes[0]?.name === 'from a worker');
});

/** Shows a picture of the page to whoever sets SCREENSHOTS to a directory. */
async function picture(page: Page, name: string): Promise<void> {
  if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
}

test('the example app opens, writes and reloads without a network, and sends when it is back', { timeout: 120_000 }, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'idem-example-'));
  const example = fileURLToPath(new URL('../../examples/vite', import.meta.url));
  const clients = fileURLToPath(new URL('../..', import.meta.url));
  execFileSync(process.execPath, [join(clients, 'node_modules/vite/bin/vite.js'), 'build', '--outDir', dir, '--emptyOutDir'], { cwd: example, stdio: 'ignore', env: { ...process.env, NODE_ENV: 'production' } });
  const paths = (readdirSync(dir, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const files = Object.fromEntries(paths.map((path) => [path.slice(dir.length), { type: TYPES[extname(path)]!, body: readFileSync(path, 'utf8') }]));
  rmSync(dir, { recursive: true });
  const network = await serve({ ...files, '/': files['/index.html']! });
  const page = await browser.open(`${network.url}/?url=${network.url}&token=${tokenOf('diary')}`, (error) => errors.push(error));
  const add = async (type: string, notes: string) => {
    await page.getByLabel('What').fill(type);
    await page.getByLabel('Notes').fill(notes);
    await page.getByRole('button', { name: 'Add' }).click();
    await page.getByText(`${type}: ${notes}`).waitFor();
  };
  await add('Coffee', 'in the sun');
  await page.locator('#events .synced').waitFor();
  await eventually('the page is kept', () => page.evaluate(async () => Boolean((await caches.match('/style.css')) && (await caches.match('/')))));
  await picture(page, 'online');
  network.stop();
  await add('Run', 'without a network');
  await page.getByText('offline').waitFor();
  await picture(page, 'offline');
  await page.reload();
  await page.getByText('Run: without a network').waitFor();
  await page.getByText(/offline, 2 to send/).waitFor();
  await picture(page, 'reloaded');
  network.go();
  await page.getByText(/^online$/).waitFor();
  await picture(page, 'back');
  const { events } = await server.ask('diary', '{ events { nodes { notes eventType { name } } } }');
  expect(events.nodes.map((node: any) => `${node.eventType.name}: ${node.notes}`).sort()).toEqual(['Coffee: in the sun', 'Run: without a network']);
  expect(errors).toEqual([]);
});
