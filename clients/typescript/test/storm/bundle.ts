// Builds the page of a storm, with the kit as it is or with a fault put into it.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { type Plugin, build } from 'esbuild';

/** A fault: a piece of a source file, and what takes its place. */
export interface Fault {
  name: string;
  changes: { file: string; from: string; to: string }[];
}

const sourceOf = (file: string) => fileURLToPath(new URL(`../../src/${file}`, import.meta.url));

export const bundlePage = (fault?: Fault) => bundle(fileURLToPath(new URL('page.ts', import.meta.url)), fault);

/** Builds one file with all that it imports. */
export async function bundle(entry: string, fault?: Fault): Promise<string> {
  const plugin: Plugin = {
    name: 'fault',
    setup: (building) => {
      for (const file of new Set(fault?.changes.map((change) => change.file))) {
        const contents = faulty(file, fault!);
        building.onLoad({ filter: new RegExp(`${file.replaceAll(/[/.]/g, '\\$&')}$`) }, () => ({ contents, loader: 'ts' }));
      }
    },
  };
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, format: 'esm', target: 'es2022', write: false, plugins: [plugin] });
  return outputFiles[0]!.text;
}

function faulty(file: string, { name, changes }: Fault): string {
  let text = readFileSync(sourceOf(file), 'utf8');
  for (const { from, to } of changes.filter((change) => change.file === file)) {
    if (text.split(from).length !== 2) throw new Error(`${name}: ${JSON.stringify(from)} is not in ${file} exactly once`);
    text = text.replace(from, () => to);
  }
  return text;
}
