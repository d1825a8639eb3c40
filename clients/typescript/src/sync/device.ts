// The data of this device: runs the rules of the core on what a storage has, in one transaction, and tells what changed.

import { reportUncaught } from '../callbacks.js';
import { Copy, type CopyContents } from '../core/copy.js';
import { editIdAfter, idMaker } from '../core/ids.js';
import { type Conflict, type Context, type Fields, type Installation, type Merge, type Notice, type Row, newInstallation } from '../core/model.js';
import { type ReadTransaction, type Storage, StorageError } from '../storage/storage.js';

/** What a transaction changed: the ids of rows, and what the app should be told. */
export interface Commit {
  rowIds: string[];
  notices: Notice[];
  /** Whether entries of the outbox were added or changed. */
  hasQueued: boolean;
  /** How many writes are queued, and refused, after it. */
  counts: { pending: number; refused: number };
}

/** What to load for a rule. */
export interface ReadSet {
  rows?: string[];
  /** Load all entries about these rows. */
  entriesAbout?: string[];
  entriesInDoubt?: boolean;
  refusals?: boolean;
  /** Event types that get another id: everything that names them is loaded. */
  renamedTypes?: string[];
}

/** Another tab has become the leader: this one must not write what it received. */
export class DeposedError extends Error {
  override readonly name = 'DeposedError';
}

export class Device {
  /** The server's clock minus this device's, in milliseconds; null before the first page. */
  serverOffsetMs: number | null = null;
  /** How large a flush may be now, from 0 to 1: less after requests that did not get through. */
  batchShare = 1;
  /** What must have happened before anything is written. */
  ready: Promise<unknown> = Promise.resolve();
  readonly newId: () => string;
  readonly #eventId: (nowMs: number) => string;

  constructor(
    readonly storage: Storage,
    private readonly merge: Merge,
    private readonly clock: () => number,
    private readonly onCommit: (commit: Commit) => void,
    private readonly onStorageError: (error: StorageError) => void,
  ) {
    this.newId = idMaker(clock);
    let at = 0;
    const maker = idMaker(() => at);
    this.#eventId = (nowMs) => { at = nowMs; return maker(); };
  }

  now(): number {
    return this.clock();
  }

  context(): Context {
    const nowMs = this.clock();
    const serverNowMs = nowMs + (this.serverOffsetMs ?? 0);
    return { nowMs, serverNowMs, newId: this.#eventId, newEditId: (last) => editIdAfter(last, nowMs), merge: (conflict) => this.#merged(conflict) };
  }

  /** What the app's function returns. If it throws, the fields of this device win, so that nothing is held up. */
  #merged(conflict: Conflict): Fields | null {
    try {
      return this.merge(conflict);
    } catch (error) {
      reportUncaught(error);
      return conflict.patch;
    }
  }

  /** The installation as it is stored; a new one if nothing is stored yet. */
  async installation(tx: ReadTransaction): Promise<Installation> {
    return (await tx.installation()) ?? newInstallation(this.newId());
  }

  /** The row with this id, or the one that it was renamed to. */
  async row(id: string): Promise<Row | undefined> {
    const { rows } = await this.storage.read((tx) => withCurrent(tx, [id]));
    return rows.find(({ renamedTo }) => renamedTo === undefined);
  }

  /**
   * Loads what `readSet` asks for, runs a rule on it and stores what the rule changed. With `term`, rejects with
   * `DeposedError` if another leader has begun since.
   */
  async commit<T>(
    readSet: ReadSet | ((tx: ReadTransaction) => Promise<Omit<CopyContents, 'installation'>>),
    rule: (copy: Copy, context: Context) => T,
    { term, durability = 'strict' }: { term?: number | undefined; durability?: 'strict' | 'relaxed' } = {},
  ): Promise<T> {
    await this.ready;
    const written = this.storage.write(async (tx) => {
      const stored = await tx.installation();
      if (stored?.isSignedOut) throw new StorageError('closed');
      if (term !== undefined && stored?.term !== term) throw new DeposedError();
      const installation = stored ?? newInstallation(this.newId());
      const contents = typeof readSet === 'function' ? await readSet(tx) : await load(tx, readSet);
      const copy = new Copy({ ...contents, installation });
      const ruled = rule(copy, this.context());
      const changes = copy.changes();
      await tx.apply(changes);
      const rowIds = [...changes.rows.map(({ id }) => id), ...changes.removedRows];
      const { pending, refused } = changes.installation;
      return [ruled, { rowIds, notices: copy.notices, hasQueued: changes.entries.length > 0, counts: { pending, refused } }] as const;
    }, durability);
    const [result, commit] = await written.catch((error: unknown) => {
      if (error instanceof StorageError) this.onStorageError(error);
      throw error;
    });
    this.onCommit(commit);
    return result;
  }
}

async function load(tx: ReadTransaction, { rows = [], entriesAbout = [], entriesInDoubt = false, refusals = false, renamedTypes = [] }: ReadSet): Promise<Omit<CopyContents, 'installation'>> {
  const refused = refusals ? await tx.refusals() : [];
  const refusedIds = refused.map(({ id }) => id);
  const wanted = await withCurrent(tx, [...rows, ...refusedIds]);
  const about = [...new Set([...entriesAbout, ...refusedIds, ...wanted.renamed])];
  const [entries, doubtful, ...named] = await Promise.all([
    tx.entriesAbout(about),
    entriesInDoubt ? tx.entriesInDoubt() : [],
    ...renamedTypes.map(async (id) => ({ rows: await tx.rowsOfType(id), entries: await tx.entriesNaming(id) })),
  ]);
  return {
    rows: [...wanted.rows, ...named.flatMap((part) => part.rows)],
    entries: [...new Map([...entries, ...doubtful, ...named.flatMap((part) => part.entries)].map((entry) => [entry.seq, entry])).values()],
    refusals: refused,
  };
}

/** Rows with these ids, and those that they were renamed to. */
async function withCurrent(tx: ReadTransaction, ids: string[]): Promise<{ rows: Row[]; renamed: string[] }> {
  const rows = await tx.rows([...new Set(ids)]);
  const renamed = rows.flatMap(({ renamedTo }) => renamedTo ?? []);
  if (renamed.length === 0) return { rows, renamed };
  const current = await withCurrent(tx, renamed);
  return { rows: [...rows, ...current.rows], renamed: [...renamed, ...current.renamed] };
}
