// Imports a file: hashes it, uploads it in parts that survive a cut, and follows the import to its end.

import type { Fields, Problem } from '../core/model.js';
import { backoffMs } from '../transport/backoff.js';
import { type Endpoint, RequestError, authorized, send } from '../transport/http.js';
import { ImportError } from './error.js';
import { hashFile } from './hash.js';

export type ImportFormat = 'NDJSON' | 'JSON' | 'CSV' | 'APPLE_HEALTH';

/** How the columns of a CSV file are read: `CsvMapping` of the server's schema. */
export interface CsvMapping {
  timestampColumn: string;
  eventType?: string;
  eventTypeColumn?: string;
  endDateColumn?: string;
  idColumn?: string;
  externalIdColumns?: string[];
  notesColumn?: string;
  sourceType?: string;
  latitudeColumn?: string;
  longitudeColumn?: string;
  propertyColumns?: string[];
  missing?: string[];
  timeZone?: string;
  timestampFormat?: string;
  delimiter?: string;
  skipLines?: number;
  decimalSeparator?: string;
  encoding?: string;
}

export interface UploadOptions {
  format: ImportFormat;
  csv?: CsvMapping;
  /** Decide and report, but store nothing. */
  dryRun?: boolean;
  /** Shown in lists of imports; the name of the file if absent. */
  name?: string;
  /** The id of the import, a UUIDv7. The same id with the same file goes on where an upload was cut, also after a reload. */
  id?: string;
  onProgress?: (progress: ImportProgress) => void;
  signal?: AbortSignal;
}

/** `fraction` is from 0 to 1 within a phase. `job` is there once the server has the import. */
export interface ImportProgress {
  id: string;
  phase: 'hashing' | 'uploading' | 'processing';
  fraction: number;
  job: ImportJob | null;
}

export interface ImportJob {
  id: string;
  state: 'AWAITING_UPLOAD' | 'QUEUED' | 'RUNNING' | 'PAUSED' | 'COMPLETED' | 'FAILED' | 'CANCELED' | 'ROLLING_BACK' | 'ROLLED_BACK';
  format: ImportFormat;
  name: string | null;
  dryRun: boolean;
  counts: { records: number; inserted: number; duplicates: number; differing: number; deleted: number; rejected: number };
  progress: number;
  problem: Problem | null;
  upload: { url: string; offset: number } | null;
}

/** The server stores parts of this size; what is between two of them is sent again after a cut. */
const PART = 8 * 1024 * 1024;
const FOLLOW_MS = 500;
const FAILURES_MAX = 8;
const ENDED = new Set<ImportJob['state']>(['COMPLETED', 'FAILED', 'CANCELED', 'ROLLED_BACK']);

const JOB = `id state format name dryRun counts { records inserted duplicates differing deleted rejected } progress
  problem { code detail retryable retryAfterMs } upload { url offset }`;
const CREATE = `mutation Create($input: CreateImportInput!) { createImport(input: $input) { importJob { ${JOB} } problem { code detail retryable retryAfterMs } } }`;
const FIND = `query Find($id: ID!) { importJob(id: $id) { ${JOB} } }`;

/**
 * Uploads a file and returns the import when it has ended, in whatever state. Rejects with `ImportError` if the server
 * refuses it, and with `RequestError` if the server cannot be reached for several minutes.
 */
export async function upload(endpoint: Endpoint, newId: () => string, file: Blob, options: UploadOptions): Promise<ImportJob> {
  const { format, csv, dryRun = false, name = nameOf(file), id = newId(), onProgress = () => {}, signal } = options;
  let job: ImportJob | null = null;
  const report = (phase: ImportProgress['phase'], fraction: number) => onProgress({ id, phase, fraction, job });
  report('hashing', 0);
  const sha256 = await hashFile(file, (done) => report('hashing', file.size === 0 ? 1 : done / file.size), signal);
  const input = { id, format, name, sizeBytes: file.size, sha256, dryRun, ...(csv ? { csv } : {}) };
  const ask = <T>(query: string, variables: Fields) => persist(() => send<T>(endpoint, query, variables, signal), signal);
  const { createImport } = await ask<{ createImport: { importJob: ImportJob | null; problem: Problem | null } }>(CREATE, { input: input as unknown as Fields });
  if (createImport.problem || !createImport.importJob) throw new ImportError(createImport.problem!);
  job = createImport.importJob;
  if (job.state === 'AWAITING_UPLOAD') await put(endpoint, job, file, (sent) => report('uploading', sent / file.size), signal);
  for (;;) {
    const found: { importJob: ImportJob } = await ask(FIND, { id });
    job = found.importJob;
    report('processing', job.progress);
    if (ENDED.has(job.state)) return job;
    await sleep(FOLLOW_MS, signal);
  }
}

const nameOf = (file: Blob): string => (file instanceof File ? file.name.slice(0, 255) : 'upload');

/** Sends the bytes that the server does not have. After a cut the server says where to go on. */
async function put(endpoint: Endpoint, job: ImportJob, file: Blob, onSent: (bytes: number) => void, signal: AbortSignal | undefined): Promise<void> {
  const { url } = job.upload!;
  let offset = job.upload!.offset;
  while (offset < file.size) {
    onSent(offset);
    offset = await persist(async () => {
      const body = file.slice(offset, offset + PART);
      const headers = { 'upload-offset': String(offset), 'content-type': 'application/octet-stream' };
      const response = await authorized(endpoint, url, { method: 'PUT', body, headers, ...(signal ? { signal } : {}) });
      // 409 names the offset at which to go on: another tab may have sent a part.
      const stored = response.headers.get('upload-offset');
      if ((response.ok || response.status === 409) && stored !== null) return Number(stored);
      throw new ImportError((await response.json()) as Problem);
    }, signal);
  }
  onSent(file.size);
}

/** Tries again after failures that pass. */
async function persist<T>(work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  for (let failures = 1; ; failures += 1) {
    try {
      return await work();
    } catch (error) {
      signal?.throwIfAborted();
      const passes = error instanceof RequestError && ['offline', 'busy', 'foreign'].includes(error.kind);
      if (!passes || failures >= FAILURES_MAX) throw error;
      await sleep(backoffMs(failures, error.retryAfterMs), signal);
    }
  }
}

function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
