// Puts the parts together: the storage of this device, sync in one tab, and what an app calls.

import { callApp, reportUncaught } from './callbacks.js';
import { type DigestBucket, differingMonths, digestOf, serverDigest } from './api/digest.js';
import { type IdemEvent, type IdemEventType, eventOf, eventTypeOf } from './api/entities.js';
import { Imports } from './api/imports.js';
import { LiveQueries } from './api/live.js';
import { type RefusedWrite, RefusedWrites, refusedWrite } from './api/refused.js';
import { type StatsAnswer, type StatsInput, stats } from './api/stats.js';
import { EventTypes, Events } from './api/writes.js';
import type { Entity, Merge, Row } from './core/model.js';
import { databaseName, indexedDbStorage } from './storage/indexeddb.js';
import { type Storage, StorageError } from './storage/storage.js';
import { type Commit, Device } from './sync/device.js';
import { Engine } from './sync/engine.js';
import type { Message } from './sync/messages.js';
import { INITIAL_STATUS, Observable, type Status, type SyncStatus } from './sync/status.js';
import { type Channel, openChannel } from './tabs/channel.js';
import { type Candidate, runForLeader } from './tabs/leader.js';
import type { Endpoint, TokenSource } from './transport/http.js';

export interface IdemOptions {
  /** The address of the server, for example `https://events.example.com`. */
  url: string;
  /** The user, as the `sub` of the token names it. The device keeps the data of each user apart. */
  subject: string;
  /** The `iss` of the token, if the server has users of several issuers. */
  issuer?: string;
  /** Returns a token, or null if there is none now. `renew`: the server refused the last one. */
  token: TokenSource;
  /** Where this device keeps its data; IndexedDB if absent. */
  storage?: Storage;
  /** Merges an edit with what another device has changed meanwhile. If absent, the edited fields are ours, the others theirs. */
  merge?: Merge;
  onRefused?: (refused: RefusedWrite) => void;
  /** An event or event type has another id from now on: the server knew it already, or the clock was far ahead. */
  onRenamed?: (renamed: { entity: Entity; from: string; to: string }) => void;
  fetch?: typeof fetch;
  /** Unix milliseconds. */
  clock?: () => number;
}

/** An event or an event type, or that there is none any more. */
export interface ChangedRow {
  id: string;
  /** Null if nothing is known of this id. */
  entity: Entity | null;
  event: IdemEvent | null;
  eventType: IdemEventType | null;
}

export interface Verification {
  /** The months of ids' times in which this device and the server differed, as YYYY-MM. */
  differing: Record<Entity, string[]>;
  /** Whether the device now has what the server has. */
  isRepaired: boolean;
}

const DIGEST_ROWS = 1_000;
/** How often a comparison is begun again because the server had something new. */
const QUIET_ATTEMPTS = 10;

type SyncedRow = Pick<Row, 'id' | 'version' | 'entity'>;

const isEmpty = (differing: Record<Entity, string[]>) => differing.EVENT.length + differing.EVENT_TYPE.length === 0;

const changedRow = (id: string, row: Row | undefined): ChangedRow =>
  ({ id, entity: row?.entity ?? null, event: row ? eventOf(row) : null, eventType: row ? eventTypeOf(row) : null });

const ownFieldsWin: Merge = ({ patch }) => patch;

export class Idem {
  readonly events: Events;
  readonly types: EventTypes;
  readonly refused: RefusedWrites;
  readonly imports: Imports;
  readonly #status = new Observable<Status>(INITIAL_STATUS);
  readonly #endpoint: Endpoint;
  readonly #storage: Storage;
  readonly #device: Device;
  readonly #queries: LiveQueries;
  readonly #engine: Engine;
  readonly #channel: Channel<Message>;
  readonly #candidate: Candidate;
  readonly #closed = new AbortController();
  readonly #followers = new Set<(rows: ChangedRow[]) => void>();
  #told: Promise<void> = Promise.resolve();

  constructor(private readonly options: IdemOptions) {
    const { url, subject, issuer = null, token, merge = ownFieldsWin, clock = Date.now } = options;
    this.#endpoint = { url, subject, issuer, token, fetch: options.fetch ?? ((...request) => fetch(...request)) };
    this.#storage = options.storage ?? indexedDbStorage(databaseName(url, issuer, subject), (error) => this.#storageFailed(error));
    this.#device = new Device(this.#storage, merge, clock, (commit) => this.#committed(commit), (error) => this.#storageFailed(error));
    this.#device.ready = this.#finishSignOut();
    this.#queries = new LiveQueries(this.#storage, (error) => this.#storageFailed(error));
    this.events = new Events(this.#device, this.#queries);
    this.types = new EventTypes(this.#device, this.#queries);
    this.refused = new RefusedWrites(this.#device, () => this.sync());
    this.imports = new Imports(this.#endpoint, this.#device);
    this.#engine = new Engine(this.#device, this.#endpoint, (status) => this.#report(status), (error) => this.#storageFailed(error));
    const { name } = this.#storage;
    this.#channel = openChannel<Message>(name, (message) => this.#received(message));
    this.#candidate = runForLeader(name, this.#channel, (signal) => this.#lead(signal));
    this.#channel.post({ type: 'hello' });
    this.#followThePage();
    void this.#recall();
  }

  /** What an app can show of sync; a new object after each change. */
  get status(): Status {
    return this.#status.value;
  }

  /** Calls `onStatus` after each change of the status. Returns the function that ends it. */
  onStatus(onStatus: (status: Status) => void): () => void {
    return this.#status.subscribe(onStatus);
  }

  /**
   * Calls `onRows` with the events and event types that have changed, here or on other devices; both are null for what
   * is deleted. It is for adapters that keep a copy elsewhere. Returns the function that ends it.
   */
  onRows(onRows: (rows: ChangedRow[]) => void): () => void {
    this.#followers.add(onRows);
    return () => this.#followers.delete(onRows);
  }

  /** What there is under these ids, in their order. */
  async rows(ids: string[]): Promise<ChangedRow[]> {
    const found = new Map((await this.#storage.read((tx) => tx.rows(ids))).map((row) => [row.id, row]));
    return ids.map((id) => changedRow(id, found.get(id)));
  }

  /** Everything that this device has, deleted rows too, in the order of ids: at most `limit` rows after an id. */
  async scan(after: string | null, limit: number): Promise<ChangedRow[]> {
    return (await this.#storage.read((tx) => tx.rowsAfter(after, limit))).map((row) => changedRow(row.id, row));
  }

  /** Makes a UUIDv7 for an event or an event type that the app is going to create. */
  newId(): string {
    return this.#device.newId();
  }

  /** Sends and receives now, for example after the user has signed in. */
  sync(): void {
    if (this.#candidate.isLeader) this.#engine.wake('asked');
    else this.#channel.post({ type: 'wake' });
  }

  /** Counts and sums of events; while there is no network, the last answer to the same question. */
  stats(input: StatsInput): Promise<StatsAnswer> {
    return stats(this.#storage, this.#endpoint, this.#device, input);
  }

  /**
   * Compares this device with the server by their digests, and reads everything anew if they differ. Writes that wait
   * are left out on both sides, so it is exact only when `status.pending` is 0.
   */
  async verify(): Promise<Verification> {
    const differing = await this.#differing();
    if (isEmpty(differing)) return { differing, isRepaired: true };
    await this.#device.commit({}, ({ installation }) => Object.assign(installation, { cursor: null, round: installation.round + 1, isBootstrapping: true }));
    return { differing, isRepaired: isEmpty(await this.#differing()) };
  }

  /**
   * Ends the use of this client on this device. `erase` deletes the local copy. Rejects while writes wait that the
   * server has not answered, because they would be lost, unless `discard` is true.
   */
  async signOut({ erase = true, discard = false }: { erase?: boolean; discard?: boolean } = {}): Promise<void> {
    // From here on no tab can write: a write that came between the question and the deletion would be lost.
    if (erase) {
      await this.#device.commit({}, ({ installation }) => {
        if (installation.pending > 0 && !discard) throw new PendingWritesError(installation.pending);
        installation.isSignedOut = true;
      });
    }
    this.#channel.post({ type: 'signedOut' });
    this.close();
    if (erase) await this.#storage.erase();
  }

  /** Stops sync in this tab. What is stored stays. */
  close(): void {
    this.#closed.abort();
    this.#candidate.close();
    this.#channel.close();
    this.#storage.close();
    this.#status.set({ leader: false, online: false });
  }

  /** Reads one after the other, so that followers never go back to an older state. */
  #tellFollowers(ids: string[]): void {
    this.#told = this.#told.then(async () => {
      const rows = await this.rows(ids);
      for (const follower of this.#followers) callApp(follower, rows);
    }).catch((error: unknown) => this.#storageFailed(error));
  }

  async #lead(signal: AbortSignal): Promise<void> {
    this.#status.set({ leader: true });
    try {
      await this.#engine.run(signal);
    } catch (error) {
      if (error instanceof StorageError) this.#storageFailed(error);
      else throw error;
    } finally {
      this.#status.set({ leader: false });
    }
  }

  #report(changes: Partial<SyncStatus>): void {
    this.#status.set(changes);
    const { online, needsToken, problem, bootstrap, lastSyncedAt } = this.#status.value;
    this.#channel.post({ type: 'status', status: { online, needsToken, problem, bootstrap, lastSyncedAt } });
  }

  #committed(commit: Commit): void {
    if (this.#closed.signal.aborted) return;
    if (commit.rowIds.length > 0 || commit.notices.length > 0) this.#channel.post({ type: 'committed', commit });
    this.#changed(commit);
    // A transaction that was under way ends well also after a newer version has taken the database.
    if (this.#status.value.storage !== 'outdated') this.#status.set({ storage: null });
  }

  #changed({ rowIds, notices, hasQueued, counts }: Commit): void {
    this.#status.set(counts);
    this.#queries.changed(rowIds);
    if (this.#followers.size > 0 && rowIds.length > 0) this.#tellFollowers(rowIds);
    for (const notice of notices) {
      if (notice.type === 'renamed') callApp(this.options.onRenamed, { entity: notice.entity, from: notice.from, to: notice.to });
      else callApp(this.options.onRefused, refusedWrite(notice.refusal));
    }
    if (hasQueued && this.#candidate.isLeader) this.#engine.wake('written');
  }

  /** A sign-out may have been cut before the data were deleted. */
  async #finishSignOut(): Promise<void> {
    try {
      const installation = await this.#storage.read((tx) => tx.installation());
      if (installation?.isSignedOut) await this.#storage.erase();
    } catch (error) {
      this.#storageFailed(error);
    }
  }

  /** Shows what is stored from the last time. */
  async #recall(): Promise<void> {
    try {
      const { pending, refused, lastSyncedAt } = await this.#storage.read((tx) => this.#device.installation(tx));
      this.#status.set({ pending, refused, lastSyncedAt });
    } catch (error) {
      this.#storageFailed(error);
    }
  }

  #received(message: Message): void {
    if (this.#closed.signal.aborted) return;
    const { isLeader } = this.#candidate;
    switch (message.type) {
      case 'committed':
        return this.#changed(message.commit);
      case 'status':
        return isLeader ? undefined : this.#status.set(message.status);
      case 'hello':
        return isLeader ? this.#report({}) : undefined;
      case 'ping':
        return isLeader ? this.#channel.post({ type: 'pong' }) : undefined;
      case 'pong':
        return this.#candidate.heard();
      case 'wake':
        return isLeader ? this.#engine.wake('asked') : undefined;
      case 'signedOut':
        return this.close();
    }
  }

  #storageFailed(error: unknown): void {
    if (this.#closed.signal.aborted) return;
    if (!(error instanceof StorageError)) return reportUncaught(error);
    this.#status.set({ storage: error.failure });
    // The version of the app that is newer takes over.
    if (error.failure === 'outdated' || error.failure === 'closed') this.#candidate.close();
  }

  /** The network is back, or the page is shown again: do not wait for a timer. */
  #followThePage(): void {
    const options = { signal: this.#closed.signal };
    const wake = () => this.sync();
    globalThis.addEventListener?.('online', wake, options);
    globalThis.document?.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') wake();
    }, options);
  }

  /** Compares when everything is received, and nothing has changed on the server meanwhile. */
  async #differing(): Promise<Record<Entity, string[]>> {
    let theirs = await serverDigest(this.#endpoint);
    let rows: SyncedRow[];
    for (let attempt = 0; ; attempt += 1) {
      await this.#syncNow();
      rows = await this.#syncedRows();
      const now = await serverDigest(this.#endpoint);
      const isQuiet = JSON.stringify(now) === JSON.stringify(theirs);
      theirs = now;
      if (isQuiet || attempt === QUIET_ATTEMPTS) break;
    }
    const of = async (entity: Entity): Promise<string[]> => {
      const ours: DigestBucket[] = await digestOf(rows.filter((row) => row.entity === entity));
      return differingMonths(ours, theirs[entity]);
    };
    return { EVENT: await of('EVENT'), EVENT_TYPE: await of('EVENT_TYPE') };
  }

  async #syncedRows(): Promise<SyncedRow[]> {
    const found: SyncedRow[] = [];
    for (let after: string | null = null; ;) {
      const part = await this.#storage.read((tx) => tx.rowsAfter(after, DIGEST_ROWS));
      for (const { id, version, baseVersion, entity, fields, base, refused } of part) {
        const stored = base === undefined ? fields : base;
        if (stored !== null && !refused) found.push({ id, version: baseVersion ?? version, entity });
      }
      if (part.length < DIGEST_ROWS) return found;
      after = part.at(-1)!.id;
    }
  }

  /** Receives everything, a bootstrap to its end. It waits as long as there is no network. */
  async #syncNow(): Promise<void> {
    do await this.#untilSynced();
    while ((await this.#storage.read((tx) => this.#device.installation(tx))).isBootstrapping);
  }

  #untilSynced(): Promise<void> {
    const before = this.status.lastSyncedAt;
    const synced = new Promise<void>((resolve, reject) => {
      this.#closed.signal.addEventListener('abort', () => reject(new StorageError('closed')), { once: true });
      const end = this.onStatus(({ lastSyncedAt }) => {
        if (lastSyncedAt === before) return;
        end();
        resolve();
      });
    });
    this.sync();
    return synced;
  }
}

/** Signing out would lose writes that the server has not answered. */
export class PendingWritesError extends Error {
  override readonly name = 'PendingWritesError';
  constructor(readonly pending: number) {
    super(`${pending} writes have not been sent`);
  }
}

/** Opens the data of a user on this device, and keeps it in sync. It works without a network and without a token. */
export const createIdem = (options: IdemOptions): Idem => new Idem(options);
