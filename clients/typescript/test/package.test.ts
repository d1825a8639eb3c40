// The package as others install it, after `npm run build`: its tarball in plain Node and in a Vite project, its types, and its size.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { Server, tokenOf } from './support/server.js';

const clients = fileURLToPath(new URL('../..', import.meta.url));
const kit = join(clients, 'typescript');
const dir = mkdtempSync(join(tmpdir(), 'idem-package-'));
let tarball: string;
let server: Server;

/** Runs a program and returns its output; the error has the output too. */
function run(program: string, args: string[], cwd: string): string {
  try {
    return execFileSync(program, args, { cwd, encoding: 'utf8', env: { ...process.env, NODE_ENV: 'production' }, stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${program} ${args.join(' ')}\n${stdout}\n${stderr}`);
  }
}

/** Whether the system has a Node that the kit supports. Debian may have an older one. */
const systemNode = () => existsSync('/usr/bin/node') && Number(run('/usr/bin/node', ['-p', 'process.versions.node'], dir).split('.')[0]) >= 20;

const node = (script: string, args: string[], cwd: string) => run(process.execPath, [join(clients, 'node_modules', script), ...args], cwd);

beforeAll(async () => {
  server = await Server.start();
  run('npm', ['pack', '--pack-destination', dir], kit);
  tarball = join(dir, readdirSync(dir).find((name) => name.endsWith('.tgz'))!);
}, 120_000);
afterAll(async () => {
  rmSync(dir, { recursive: true });
  await server.end();
});

test('publint and are-the-types-wrong find nothing', () => {
  expect(node('publint/src/cli.js', [kit, '--strict'], kit)).toContain('All good!');
  node('@arethetypeswrong/cli/dist/index.js', [tarball, '--profile', 'esm-only'], kit);
}, 120_000);

test('the kit is as small as it promises', () => {
  node('size-limit/bin.js', [], kit);
}, 120_000);

test('the tarball works in plain Node and in a Vite project', () => {
  const app = join(dir, 'app');
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module', dependencies: { '@idem/client': `file:${tarball}` } }));
  run('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts'], app);
  const script = `
    import { createIdem } from '@idem/client';
    import { memoryStorage } from '@idem/client/storage';
    const idem = createIdem({ url: '${server.url}', subject: 'node', token: () => '${tokenOf('node')}', storage: memoryStorage() });
    const type = await idem.types.create({ name: 'Run' });
    await idem.events.create({ eventTypeId: type.id, timestamp: new Date() });
    await new Promise((resolve) => idem.onStatus(({ pending, lastSyncedAt }) => pending === 0 && lastSyncedAt && resolve()));
    console.log((await idem.verify()).isRepaired, (await idem.events.list())[0].sync);
    idem.close();`;
  writeFileSync(join(app, 'main.mjs'), script);
  // Also the Node of the system, which is older. The program must end by itself.
  const programs = [process.execPath, ...(systemNode() ? ['/usr/bin/node'] : [])];
  for (const program of programs) expect(run(program, ['main.mjs'], app).trim()).toBe('true synced');
  writeFileSync(join(app, 'index.html'), '<script type="module" src="/main.js"></script>');
  writeFileSync(join(app, 'main.js'), "import { createIdem } from '@idem/client'; globalThis.createIdem = createIdem;");
  node('vite/bin/vite.js', ['build'], app);
  const built = readdirSync(join(app, 'dist/assets'));
  expect(built.some((name) => name.startsWith('hash-worker'))).toBe(true);
  expect(dirname(tarball)).toBe(dir);
}, 180_000);
