// The folders of the kit depend on each other in one direction, as ARCHITECTURE.md draws them.
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

const source = fileURLToPath(new URL('../src', import.meta.url));

/** Each folder with those that it may import from, beside itself and `callbacks.ts`. */
const LAYERS: Record<string, string[]> = {
  core: [], storage: ['core'], transport: ['core'], tabs: [], sync: ['core', 'storage', 'transport', 'tabs'],
  imports: ['core', 'transport'], api: ['core', 'storage', 'sync', 'transport', 'imports'],
};

test.for(Object.entries(LAYERS))('%s imports only from the layers below it', ([folder, below]) => {
  const allowed = new Set([folder, 'callbacks.js', ...below]);
  const wrong = readdirSync(`${source}/${folder}`).flatMap((file) => {
    const text = readFileSync(`${source}/${folder}/${file}`, 'utf8');
    const imported = [...text.matchAll(/from '\.\.\/([^/']+)/g)].map(([, name]) => name!);
    return imported.filter((name) => !allowed.has(name)).map((name) => `${file} imports from ${name}`);
  });
  expect(wrong).toEqual([]);
});
