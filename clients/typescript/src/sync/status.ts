// What an app can show of sync.

import { callApp } from '../callbacks.js';
import type { StorageFailure } from '../storage/storage.js';
import type { FailureKind } from '../transport/http.js';

export interface Status {
  /** The last request was answered by the server. */
  online: boolean;
  /** This tab sends and receives for all tabs of the user. */
  leader: boolean;
  /** How many writes the server has not answered for good. */
  pending: number;
  /** How many writes the server refused for good. */
  refused: number;
  /** When everything was received last, in Unix milliseconds. */
  lastSyncedAt: number | null;
  /** The app must sign in: the server takes neither the token nor a renewed one. Writes are kept. */
  needsToken: boolean;
  /** Why the last request brought nothing; null after one that did. */
  problem: FailureKind | null;
  /** While everything is received anew: how many entities have come, and how many there are. */
  bootstrap: { done: number; total: number } | null;
  /** Why this device cannot store writes; null if it can. */
  storage: StorageFailure | null;
}

/** The part of the status that only the leader knows. */
export type SyncStatus = Pick<Status, 'online' | 'needsToken' | 'problem' | 'bootstrap' | 'lastSyncedAt'>;

export const INITIAL_STATUS: Status = {
  online: false, leader: false, pending: 0, refused: 0, lastSyncedAt: null, needsToken: false, problem: null, bootstrap: null, storage: null,
};

/** A value with subscribers. Subscribers are called only if the value has changed. */
export class Observable<T extends object> {
  #value: T;
  readonly #subscribers = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(changes: Partial<T>): void {
    const names = Object.keys(changes) as (keyof T)[];
    if (names.every((name) => JSON.stringify(changes[name]) === JSON.stringify(this.#value[name]))) return;
    this.#value = { ...this.#value, ...changes };
    for (const subscriber of this.#subscribers) callApp(subscriber, this.#value);
  }

  /** Calls `subscriber` after each change. Returns the function that ends it. */
  subscribe(subscriber: (value: T) => void): () => void {
    this.#subscribers.add(subscriber);
    return () => this.#subscribers.delete(subscriber);
  }
}
