// Hashes a file of any size, in a worker where there are workers, so that the page does not stop.

import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';

const PART = 4 * 1024 * 1024;

/** What the worker is asked, and what it answers. */
export type HashRequest = Blob;
export type HashAnswer = { done: number } | { hash: string } | { error: string };

/** SHA-256 of a file, in lower-case hexadecimal digits. `onProgress` is called with the bytes that are hashed. */
export async function hashHere(file: Blob, onProgress: (done: number) => void, signal?: AbortSignal): Promise<string> {
  const hash = sha256.create();
  for (let start = 0; start < file.size; start += PART) {
    signal?.throwIfAborted();
    const part = await file.slice(start, start + PART).arrayBuffer();
    hash.update(new Uint8Array(part));
    onProgress(start + part.byteLength);
  }
  return bytesToHex(hash.digest());
}

export function hashFile(file: Blob, onProgress: (done: number) => void, signal?: AbortSignal): Promise<string> {
  if (typeof Worker === 'undefined') return hashHere(file, onProgress, signal);
  const worker = new Worker(new URL('./hash-worker.js', import.meta.url), { type: 'module' });
  const hashed = new Promise<string>((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<HashAnswer>) => {
      if ('done' in data) onProgress(data.done);
      else if ('hash' in data) resolve(data.hash);
      else reject(new Error(data.error));
    };
    worker.onerror = (event) => reject(new Error(event.message));
    signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
    worker.postMessage(file satisfies HashRequest);
  });
  return hashed.finally(() => worker.terminate());
}
