// Listens for changes by a GraphQL subscription over server-sent events. A change is only a reason to pull: what the
// pull brings is the truth, so a lost or doubled message does no harm.

import { events } from 'fetch-event-stream';

import { type Endpoint, RequestError, post } from './http.js';

const SUBSCRIPTION = 'subscription Live($after: Cursor) { changes(after: $after) { cursor } }';
/** The server sends an empty page every 30 s. A stream that is silent for longer than two of them is dead. */
const SILENCE_MS = 75_000;

/**
 * Calls `onCursor` with the position of each page that other devices and this one commit, until the stream ends.
 * Rejects with `RequestError` if the stream cannot be opened or breaks.
 */
export async function listen(endpoint: Endpoint, after: string | null, onCursor: (cursor: string) => void, signal: AbortSignal): Promise<void> {
  const silence = new AbortController();
  const stop = AbortSignal.any([signal, silence.signal]);
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    const response = await post(endpoint, SUBSCRIPTION, { after }, { accept: 'text/event-stream' }, stop);
    if (!response.ok || !response.body) throw new RequestError('foreign', 'the answer is not a stream');
    for await (const { event, data } of events(response, stop)) {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      const cursor = event === 'next' && data ? cursorOf(data) : undefined;
      if (cursor) onCursor(cursor);
    }
  } catch (cause) {
    if (cause instanceof RequestError) throw cause;
    throw new RequestError('offline', 'the stream broke', null, null, { cause });
  } finally {
    clearTimeout(timer);
  }
}

function cursorOf(data: string): string | undefined {
  try {
    return JSON.parse(data).data?.changes?.cursor;
  } catch {
    return undefined;
  }
}
