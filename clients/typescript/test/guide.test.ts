// The code in the guides: all of it has the right types, and the story of the first sections runs.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { afterAll, beforeAll, expect, test } from 'vitest';

import * as kit from '../src/index.js';
import { memoryStorage } from '../src/storage/index.js';
import { Server, tokenOf } from './support/server.js';

let server: Server;
beforeAll(async () => { server = await Server.start(); });
afterAll(() => server.end());

const pathOf = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const page = (name: string) => readFileSync(pathOf(`../../../docs/guides/${name}.md`), 'utf8');
const blocksOf = (text: string) => [...text.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code!);

/** Moves the imports to the front, because the blocks of a page are one program. */
function programOf(blocks: string[]): { imports: string; body: string } {
  const statements = blocks.join('\n').split('\n');
  const isImport = (line: string) => line.startsWith('import ');
  return { imports: statements.filter(isImport).join('\n'), body: statements.filter((line) => !isImport(line)).join('\n') };
}

test('all code of the guides has the right types', () => {
  const dir = pathOf('guide-types');
  mkdirSync(dir, { recursive: true });
  try {
    for (const name of ['client-kit', 'client-conflicts']) {
      const { imports, body } = programOf(blocksOf(page(name)));
      writeFileSync(`${dir}/${name}.ts`, `${imports}\ndeclare const auth: { token(renew: boolean): Promise<string> };\n${body}\nexport {};\n`);
    }
    const paths = Object.fromEntries([['', 'index.ts'], ['/storage', 'storage/index.ts'], ['/apollo', 'apollo/index.ts'], ['/rxdb', 'rxdb/index.ts'], ['/react', 'react/index.ts'], ['/tanstack-db', 'tanstack/index.ts']]
      .map(([name, path]) => [`@idem/client${name}`, [`../../src/${path}`]]));
    const compilerOptions = { module: 'ESNext', moduleResolution: 'Bundler', noUnusedLocals: false, noUnusedParameters: false, paths };
    writeFileSync(`${dir}/tsconfig.json`, JSON.stringify({ extends: '../../tsconfig.json', compilerOptions, include: ['.'] }));
    const tsc = pathOf('../../node_modules/typescript/bin/tsc');
    const run = () => execFileSync(process.execPath, [tsc, '-p', dir], { encoding: 'utf8' });
    try {
      expect(run()).toBe('');
    } catch (error) {
      throw new Error((error as { stdout?: string }).stdout ?? String(error));
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
}, 120_000);

test('the story of a plain web app runs as it is written', async () => {
  const text = page('client-kit');
  const story = text.slice(text.indexOf('## A plain web app'), text.indexOf('## Apollo Client'));
  const { body } = programOf(blocksOf(story));
  const script = body.replace(/async function importFile\(file: File\)/, 'async function importFile(file)').replace('https://events.example.com', server.url);
  const lines: string[] = [];
  const console = { log: (...values: unknown[]) => lines.push(values.join(' ')) };
  const createIdem = (options: kit.IdemOptions) => kit.createIdem({ ...options, storage: memoryStorage() });
  const auth = { token: () => tokenOf('user-1') };
  // The last call of the second section needs the client that the first has signed out: the order on the page is that of reading.
  const signOut = 'await idem.signOut(); // erases the local copy; rejects while writes wait to be sent';
  expect(script).toContain(signOut);
  const ordered = `${script.replace(signOut, '')}
    await importFile(new File(['time,value\\n2026-01-01,70\\n'], 'weights.csv'));
    await idem.signOut();`;
  const AsyncFunction = (async () => {}).constructor as new (...args: string[]) => (...values: unknown[]) => Promise<void>;
  await new AsyncFunction('createIdem', 'auth', 'console', 'File', ordered)(createIdem, auth, console, File);
  expect(lines.join('\n')).toMatch(/COMPLETED 1 0/);
}, 60_000);
