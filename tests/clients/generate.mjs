// Tests that code generators accept the schema: graphql-codegen and the relay-compiler.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { promisify } from 'node:util';

import { parse } from 'graphql';

import { server } from './test-user.mjs';

// These packages are CommonJS modules, so they are loaded with `require`.
const require = createRequire(import.meta.url);
const { codegen } = require('@graphql-codegen/core');
const run = promisify(execFile);
const here = import.meta.dirname;
const bin = (name) => path.join(here, 'node_modules', '.bin', name);

/** How the scalars look in TypeScript; docs/reference/schema.md names the same. */
const SCALARS = { Cursor: 'string', DateTime: 'string', JSONObject: 'Record<string, unknown>', Long: 'number' };

async function open(t) {
  const folder = await mkdtemp(path.join(tmpdir(), 'idem-generate-'));
  t.after(() => rm(folder, { recursive: true }));
  const response = await fetch(`${server}/schema.graphql`);
  assert.equal(response.status, 200);
  const sdl = await response.text();
  await writeFile(path.join(folder, 'schema.graphql'), sdl);
  return { folder, sdl };
}

/** Compiles these files in strict mode. Fails with the output of the compiler. */
async function compile(folder, files) {
  const flags = ['--noEmit', '--strict', '--target', 'es2022', '--module', 'nodenext', '--types', ''];
  await run(bin('tsc'), [...flags, ...files], { cwd: folder }).catch(({ stdout }) => assert.fail(stdout));
}

test('graphql-codegen makes types that an app compiles with', async (t) => {
  const { folder, sdl } = await open(t);
  const document = parse(await readFile(path.join(here, 'generate/operations.graphql'), 'utf8'));
  const make = (filename, documents, plugin) => codegen({
    schema: parse(sdl), documents, filename, plugins: [{ [plugin]: {} }],
    config: { scalars: SCALARS, strictScalars: true, enumsAsTypes: true, useTypeImports: true },
    pluginMap: { [plugin]: require(`@graphql-codegen/${plugin}`) },
  });
  // One file has all types of the schema and the other the types of the operations. Neither imports the
  // other.
  await writeFile(path.join(folder, 'schema.ts'), await make('schema.ts', [], 'typescript'));
  await writeFile(path.join(folder, 'types.ts'), await make('types.ts', [{ document }], 'typescript-operations'));
  await cp(path.join(here, 'generate/uses.ts'), path.join(folder, 'uses.ts'));
  await writeFile(path.join(folder, 'package.json'), '{ "type": "module" }');
  await compile(folder, ['schema.ts', 'types.ts', 'uses.ts']);
});

test('the relay-compiler takes the schema: connections, entities by node(id), edges made by their name', async (t) => {
  const { folder } = await open(t);
  await mkdir(path.join(folder, 'src'));
  await cp(path.join(here, 'generate/relay.ts'), path.join(folder, 'src/relay.ts'));
  const config = {
    src: './src', schema: './schema.graphql', language: 'typescript', eagerEsModules: true,
    customScalarTypes: SCALARS, noFutureProofEnums: false, artifactDirectory: './src/made',
  };
  await mkdir(path.join(folder, 'src/made'));
  await writeFile(path.join(folder, 'relay.config.json'), JSON.stringify(config));
  await run(bin('relay-compiler'), ['relay.config.json'], { cwd: folder }).catch((error) => assert.fail(error.stdout + error.stderr));
  const made = await readdir(path.join(folder, 'src/made'));
  assert.deepEqual(made.sort(), [
    'relayCreateMutation', 'relayEntryQuery', 'relayFollowSubscription', 'relayListQuery', 'relayPageQuery',
    'relay_entry', 'relay_list',
  ].map((name) => `${name}.graphql.ts`));
  const refetch = await readFile(path.join(folder, 'src/made/relayEntryQuery.graphql.ts'), 'utf8');
  assert.match(refetch, /node\(id: \$id\)/);
  const entry = await readFile(path.join(folder, 'src/made/relay_entry.graphql.ts'), 'utf8');
  for (const field of ['id: string', 'version: number', 'timestamp: string', 'notes: string | null \\| undefined']) {
    assert.match(entry, new RegExp(`readonly ${field.replace('string | null', 'string \\| null')}`));
  }
});
