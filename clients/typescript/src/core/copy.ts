// The part of this device's data that one transaction works on: loaded before, changed by the rules, stored after.

import { project, subjectOf, typesNamed } from './content.js';
import type { Context, Entity, Entry, Fields, Installation, Kind, Notice, Problem, Refusal, Row } from './model.js';

/** What a transaction must store. */
export interface CopyChanges {
  rows: Row[];
  removedRows: string[];
  entries: Entry[];
  removedEntries: number[];
  refusals: Refusal[];
  removedRefusals: number[];
  installation: Installation;
}

/**
 * What a transaction has loaded: the rows that it may touch, and all entries about them. For a rename also the rows,
 * the entries and the refusals that name the row.
 */
export interface CopyContents {
  rows: Row[];
  entries: Entry[];
  refusals?: Refusal[];
  installation: Installation;
}

export class Copy {
  readonly installation: Installation;
  readonly notices: Notice[] = [];
  readonly #rows: Map<string, Row>;
  readonly #entries = new Map<number, Entry>();
  /** The places of the entries about each row, in order. */
  readonly #places = new Map<string, number[]>();
  readonly #refusals: Map<number, Refusal>;
  readonly #loaded: { entries: number; refusals: number };
  readonly #touchedRows = new Set<string>();
  readonly #touchedEntries = new Set<number>();
  readonly #touchedRefusals = new Set<number>();

  constructor({ rows, entries, refusals = [], installation }: CopyContents) {
    this.installation = { ...installation };
    this.#rows = new Map(rows.map((row) => [row.id, row]));
    for (const entry of [...entries].sort((a, b) => a.seq - b.seq)) this.#keep(entry);
    this.#refusals = new Map(refusals.map((refusal) => [refusal.seq, refusal]));
    this.#loaded = { entries: this.#entries.size, refusals: this.#refusals.size };
  }

  row(id: string): Row | undefined {
    return this.#rows.get(id);
  }

  rows(): Row[] {
    return [...this.#rows.values()];
  }

  /** The id by which a row is known now. */
  currentId(id: string): string {
    const { renamedTo } = this.#rows.get(id) ?? {};
    return renamedTo === undefined ? id : this.currentId(renamedTo);
  }

  putRow(row: Row): void {
    this.#rows.set(row.id, row);
    this.#touchedRows.add(row.id);
  }

  removeRow(id: string): void {
    this.#rows.delete(id);
    this.#touchedRows.add(id);
  }

  /** Forgets the content of a row that the server does not have. Adapters that keep a copy learn it from the tombstone. */
  forgetRow({ refused: _refused, base: _base, baseVersion: _baseVersion, ...row }: Row, nowMs: number): void {
    this.putRow({ ...row, version: 0, fields: null, pending: 0, deletedAt: nowMs });
  }

  /** Makes the id of an edit: greater than every one before, because the last one is stored with the edit. */
  nextEditId(context: Context): string {
    const id = context.newEditId(this.installation.lastEdit);
    this.installation.lastEdit = id;
    return id;
  }

  /** The entries about a row, in the order of the outbox. */
  entriesOf(id: string): Entry[] {
    return (this.#places.get(id) ?? []).map((seq) => this.#entries.get(seq)!);
  }

  /** All entries that are loaded, in the order of the outbox. */
  entries(): Entry[] {
    return [...this.#entries.values()].sort((a, b) => a.seq - b.seq);
  }

  /** The entry at this place of the outbox; undefined if it is done. */
  entry(seq: number): Entry | undefined {
    return this.#entries.get(seq);
  }

  queue(kind: Kind, id: string, input: Fields): Entry {
    const entry: Entry = { seq: this.installation.nextSeq, id, kind, input, names: typesNamed(kind, input), notBefore: 0 };
    this.installation.nextSeq += 1;
    this.putEntry(entry);
    return entry;
  }

  putEntry(entry: Entry): void {
    this.#forget(entry.seq);
    this.#keep({ ...entry, names: typesNamed(entry.kind, entry.input) });
    this.#touchedEntries.add(entry.seq);
  }

  removeEntry({ seq }: Entry): void {
    this.#forget(seq);
    this.#touchedEntries.add(seq);
  }

  #keep(entry: Entry): void {
    this.#entries.set(entry.seq, entry);
    const places = this.#places.get(entry.id) ?? [];
    const index = places.findLastIndex((seq) => seq < entry.seq) + 1;
    this.#places.set(entry.id, places.toSpliced(index, 0, entry.seq));
  }

  #forget(seq: number): void {
    const entry = this.#entries.get(seq);
    if (!entry) return;
    this.#entries.delete(seq);
    this.#places.set(entry.id, this.#places.get(entry.id)!.filter((place) => place !== seq));
  }

  refusals(): Refusal[] {
    return [...this.#refusals.values()];
  }

  putRefusal(refusal: Refusal): void {
    this.#refusals.set(refusal.seq, refusal);
    this.#touchedRefusals.add(refusal.seq);
  }

  removeRefusal(seq: number): void {
    this.#refusals.delete(seq);
    this.#touchedRefusals.add(seq);
  }

  /** Takes an entry out of the outbox and keeps it as refused. */
  refuse(entry: Entry, problem: Problem, nowMs: number): void {
    const { seq, id, kind, input } = entry;
    this.removeEntry(entry);
    const refusal = { seq, id, kind, input, problem, at: nowMs };
    this.putRefusal(refusal);
    this.notices.push({ type: 'refused', refusal });
  }

  /** Makes the shown content of a row that of its base and its queued entries. */
  reproject(id: string, nowMs: number): void {
    const row = this.#rows.get(id);
    if (!row) return;
    const entries = this.entriesOf(id);
    const base = row.base === undefined ? row.fields : row.base;
    const { base: _base, baseVersion = row.version, deletedAt, ...rest } = row;
    const fields = project(base, entries);
    const deleted = fields === null ? { deletedAt: deletedAt ?? nowMs } : {};
    const queued = entries.length > 0 ? { base, baseVersion } : {};
    const version = entries.length > 0 ? row.version : baseVersion;
    this.putRow({ ...rest, version, fields, pending: entries.length, ...queued, ...deleted });
  }

  /**
   * Gives a row another id, here and in everything that names it. If there is a row with that id, the queued entries
   * of both are about it from now on.
   */
  rename(entity: Entity, from: string, to: string, nowMs: number): void {
    const moved = this.#rows.get(from);
    if (moved) {
      this.putRow({ id: from, entity, version: 0, fields: null, pending: 0, round: moved.round, renamedTo: to, deletedAt: nowMs });
      const known = this.#rows.get(to);
      this.putRow({ ...moved, ...known, id: to, fields: known?.fields ?? moved.fields });
    }
    for (const row of this.rows()) {
      const renamed = { ...row };
      if (row.fields?.eventTypeId === from) renamed.fields = { ...row.fields, eventTypeId: to };
      if (row.base?.eventTypeId === from) renamed.base = { ...row.base, eventTypeId: to };
      if (renamed.fields !== row.fields || renamed.base !== row.base) this.putRow(renamed);
    }
    for (const entry of this.entries()) {
      if (entry.id === from || entry.names.includes(from)) this.putEntry({ ...entry, id: entry.id === from ? to : entry.id, input: renameIn(entry.kind, entry.input, from, to) });
    }
    for (const refusal of this.refusals()) {
      const input = renameIn(refusal.kind, refusal.input, from, to);
      if (input !== refusal.input || refusal.id === from) this.putRefusal({ ...refusal, id: refusal.id === from ? to : refusal.id, input });
    }
    this.notices.push({ type: 'renamed', entity, from, to });
  }

  /** What the rules have changed since the copy was loaded. */
  changes(): CopyChanges {
    const split = <K, V>(touched: Set<K>, kept: Map<K, V>): [V[], K[]] => {
      const keys = [...touched];
      return [keys.filter((key) => kept.has(key)).map((key) => kept.get(key)!), keys.filter((key) => !kept.has(key))];
    };
    const [rows, removedRows] = split(this.#touchedRows, this.#rows);
    const [entries, removedEntries] = split(this.#touchedEntries, this.#entries);
    const [refusals, removedRefusals] = split(this.#touchedRefusals, this.#refusals);
    const { pending, refused } = this.installation;
    const installation = {
      ...this.installation,
      pending: pending + this.#entries.size - this.#loaded.entries,
      refused: refused + this.#refusals.size - this.#loaded.refusals,
    };
    return { rows, removedRows, entries, removedEntries, refusals, removedRefusals, installation };
  }
}

/** The input with one id exchanged wherever it stands; the same object if it does not stand anywhere. */
function renameIn(kind: Kind, input: Fields, from: string, to: string): Fields {
  const exchange = (fields: Fields): Fields => {
    const names = ['id', 'eventTypeId'].filter((name) => fields[name] === from);
    return names.length === 0 ? fields : { ...fields, ...Object.fromEntries(names.map((name) => [name, to])) };
  };
  let renamed = exchange(input);
  if (kind === 'restoreEvent') {
    const event = exchange(subjectOf(kind, input));
    if (event !== input.event) renamed = { ...renamed, event };
  }
  const patch = input.patch as Fields | undefined;
  if (patch && exchange(patch) !== patch) renamed = { ...renamed, patch: exchange(patch) };
  return renamed;
}
