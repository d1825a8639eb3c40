// Imports of files: progress, a cut upload, the same file again, and refusals.
import { expect, test } from 'vitest';

import { ImportError, type ImportProgress } from '../src/index.js';
import { openDevice } from './support/device.js';
import { newUser, server } from './support/suite.js';

const csv = { timestampColumn: 'time', eventType: 'Weight', externalIdColumns: ['time'] };
const lines = (count: number) => Array.from({ length: count }, (_, number) => `${new Date(Date.UTC(2020, 0, 1) + number * 60_000).toISOString()},${number}`);
const fileOf = (rows: string[]) => new File([`time,value\n${rows.join('\n')}\n`], 'weights.csv');

test('a file is hashed, uploaded and followed to its end, and its events reach the device', async () => {
  const { idem, settled, notes } = openDevice(server, newUser());
  const seen: ImportProgress[] = [];
  const job = await idem.imports.upload(fileOf([...lines(50), 'yesterday,1']), { format: 'CSV', csv, onProgress: (progress) => seen.push(progress) });
  expect(job).toMatchObject({ state: 'COMPLETED', name: 'weights.csv', counts: { records: 51, inserted: 50, rejected: 1 } });
  expect([...new Set(seen.map(({ phase }) => phase))]).toEqual(['hashing', 'uploading', 'processing']);
  expect(seen.at(-1)).toMatchObject({ fraction: 1, job: { state: 'COMPLETED' } });
  await settled();
  expect(await notes()).toHaveLength(50);
  const again = await idem.imports.upload(fileOf(lines(50)), { format: 'CSV', csv });
  expect(again.counts).toMatchObject({ inserted: 0, duplicates: 50 });
});

test('an upload that is cut goes on where the server has stored it', async () => {
  const user = newUser();
  const device = openDevice(server, user);
  let puts = 0;
  const offsets: (string | null)[] = [];
  const cutting = openDevice(server, user, {
    fetch: async (input, init) => {
      if (init?.method !== 'PUT') return fetch(input, init);
      puts += 1;
      offsets.push(new Headers(init.headers).get('upload-offset'));
      if (puts === 2) throw new TypeError('fetch failed');
      return fetch(input, init);
    },
  });
  device.idem.close();
  const job = await cutting.idem.imports.upload(fileOf(lines(400_000)), { format: 'CSV', csv, dryRun: true });
  expect(job).toMatchObject({ state: 'COMPLETED', dryRun: true, counts: { records: 400_000 } });
  expect(offsets).toEqual(['0', '8388608', '8388608']);
});

test('an import that the server refuses tells why, and one that is stopped stops', async () => {
  const { idem } = openDevice(server, newUser());
  await expect(idem.imports.upload(new File([], 'empty.csv'), { format: 'CSV', csv })).rejects.toThrow(ImportError);
  const stop = new AbortController();
  const stopped = idem.imports.upload(fileOf(lines(10)), { format: 'CSV', csv, signal: stop.signal, onProgress: ({ phase }) => phase === 'uploading' && stop.abort() });
  await expect(stopped).rejects.toThrow('aborted');
});
