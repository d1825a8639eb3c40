// Sync of the leader: sends the outbox, pulls the feed, listens for changes, and waits when that fails.

import { StorageError } from '../storage/storage.js';
import { backoffMs } from '../transport/backoff.js';
import { type Endpoint, RequestError } from '../transport/http.js';
import { listen } from '../transport/live.js';
import { DeposedError, type Device } from './device.js';
import { countEntities } from './documents.js';
import { flush } from './flush.js';
import { completePull, pullPage, resendAll } from './pull.js';
import type { SyncStatus } from './status.js';

/** Without a stream, and beside one that may be dead, the feed is asked this often. */
const POLL_MS = 60_000;
/** How long a stream that ended without a failure waits before it is opened again. */
const REOPEN_MS = 1_000;
const EVERY_REASON: ReadonlySet<Reason> = new Set(['written', 'changed', 'asked']);
const AFTER_FAILURE: ReadonlySet<Reason> = new Set(['changed', 'asked']);

/**
 * Why the leader should act now. `written`: there is something to send. `changed`: the server has something new.
 * `asked`: the app asks for it, or the network is back. After a failure, `written` waits for the next try.
 */
export type Reason = 'written' | 'changed' | 'asked';

export class Engine {
  #wake: () => void = () => {};
  /** Ends the wait of the stream. */
  #reached: () => void = () => {};
  /** The reasons that end a wait; none while the server has asked to wait. */
  #accepted: ReadonlySet<Reason> = EVERY_REASON;
  #isWoken = false;
  #mustPull = true;
  #cursor: string | null = null;

  constructor(
    private readonly device: Device,
    private readonly endpoint: Endpoint,
    private readonly report: (status: Partial<SyncStatus>) => void,
    private readonly onStorageError: (error: StorageError) => void,
  ) {}

  wake(reason: Reason): void {
    this.#mustPull ||= reason !== 'written';
    if (!this.#accepted.has(reason)) return;
    this.#isWoken = true;
    this.#wake();
  }

  /** Runs until `signal` aborts or another leader has begun. */
  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    signal.addEventListener('abort', () => stop.abort(), { once: true });
    if (signal.aborted) return;
    try {
      await Promise.all([this.#syncUntil(stop.signal), this.#listenUntil(stop.signal)]);
    } catch (error) {
      if (!(error instanceof DeposedError) && !stop.signal.aborted) throw error;
    } finally {
      stop.abort();
    }
  }

  async #syncUntil(signal: AbortSignal): Promise<void> {
    let failures = 0;
    let term: number | undefined;
    while (!signal.aborted) {
      let waitMs = POLL_MS;
      this.#isWoken = false;
      this.#accepted = EVERY_REASON;
      try {
        term ??= await this.#beginTerm();
        waitMs = await this.#syncOnce(term, signal);
        failures = 0;
        this.#reached();
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        this.#mustPull = true;
        // Writes that came during the request do not hurry the next one.
        this.#isWoken = false;
        this.#accepted = AFTER_FAILURE;
        if (error instanceof RequestError) {
          if (error.retryAfterMs !== null) this.#accepted = new Set();
          this.report({ online: false, problem: error.kind, needsToken: error.kind === 'noToken' });
          waitMs = backoffMs(failures, error.retryAfterMs);
        } else if (error instanceof StorageError && error.failure !== 'outdated' && error.failure !== 'closed') {
          this.onStorageError(error);
          // A database that was deleted under this tab begins as a new installation.
          term = undefined;
          waitMs = backoffMs(failures, null);
        } else {
          throw error;
        }
      }
      await this.#wait(waitMs, signal);
    }
  }

  async #beginTerm(): Promise<number> {
    const begun = await this.device.commit({}, (copy) => {
      copy.installation.term += 1;
      return { ...copy.installation };
    });
    this.#cursor = begun.cursor;
    this.report({ lastSyncedAt: begun.lastSyncedAt });
    return begun.term;
  }

  /** Pulls if there is a reason to, and flushes. Returns how long to wait for the next time, in milliseconds. */
  async #syncOnce(term: number, signal: AbortSignal): Promise<number> {
    const { device, endpoint } = this;
    if (!this.#mustPull) {
      const { nextAtMs } = await flush(device, endpoint, term, signal);
      this.report({ online: true, problem: null, needsToken: false });
      if (!(await this.#hasDoubts())) return waitUntil(nextAtMs, device.now());
    }
    this.#mustPull = false;
    let done = 0;
    let total: number | null = null;
    for (;;) {
      // What is to be sent again goes first: a page would overwrite it with what the server has left.
      await resendAll(device, endpoint, term, signal);
      const page = await pullPage(device, endpoint, term, signal);
      this.report({ online: true, problem: null, needsToken: false });
      if (page === null) continue;
      this.#cursor = page.cursor;
      if (page.reset) continue;
      const { isBootstrapping } = await device.storage.read((tx) => device.installation(tx));
      if (isBootstrapping && page.hasMore) {
        total ??= await countEntities(endpoint, signal);
        done += page.changes.length;
        this.report({ bootstrap: { done: Math.min(done, total), total } });
      }
      if (!page.hasMore && await completePull(device, term, page.cursor)) break;
      await flush(device, endpoint, term, signal);
    }
    this.report({ bootstrap: null, lastSyncedAt: device.now() });
    const { nextAtMs, hasSent } = await flush(device, endpoint, term, signal);
    // Something that the server did not know before the pull may be refused for good, or wait for another pull.
    if (hasSent && (await this.#hasDoubts())) this.wake('changed');
    return waitUntil(nextAtMs, device.now());
  }

  #hasDoubts(): Promise<boolean> {
    return this.device.storage.read(async (tx) => (await tx.entriesInDoubt()).length > 0);
  }

  async #wait(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#isWoken || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      signal.addEventListener('abort', this.#wake, { once: true });
    });
    signal.removeEventListener('abort', this.#wake);
    // A timer is a reason to ask for changes too.
    if (!this.#isWoken) this.#mustPull = true;
  }

  /** Keeps a stream open while the server can be reached; each message is a reason to pull. */
  async #listenUntil(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      let askedMs: number | null = null;
      try {
        let isAlive = false;
        await listen(this.endpoint, this.#cursor, (cursor) => {
          isAlive = true;
          failures = 0;
          if (cursor !== this.#cursor) this.wake('changed');
        }, signal);
        // A stream that ends at once and brings nothing is as good as none.
        failures = isAlive ? 0 : failures + 1;
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        askedMs = error instanceof RequestError ? error.retryAfterMs : null;
      }
      await sleep(REOPEN_MS, signal);
      // A sync that succeeds shows that the server is back: the stream need not wait any longer.
      if (failures > 0) await Promise.race([sleep(backoffMs(failures, askedMs), signal), new Promise<void>((resolve) => { this.#reached = resolve; })]);
      // What came while the stream was closed.
      if (failures === 0) this.wake('changed');
    }
  }
}

const waitUntil = (atMs: number | null, nowMs: number) => (atMs === null ? POLL_MS : Math.min(Math.max(atMs - nowMs, 0), POLL_MS));

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
  });
}
