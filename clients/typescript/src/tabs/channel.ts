// Messages between the tabs of one user, and between a page and its workers.

import type { Commit } from '../sync/device.js';
import type { SyncStatus } from '../sync/status.js';

export type Message =
  /** Rows have changed. */
  | { type: 'committed'; commit: Commit }
  | { type: 'status'; status: SyncStatus }
  /** A new tab asks for the status. */
  | { type: 'hello' }
  /** Somebody asks whether the leader runs, and the leader answers. */
  | { type: 'ping' }
  | { type: 'pong' }
  /** A tab asks the leader to sync now. */
  | { type: 'wake' }
  /** The user has signed out: the database is gone. */
  | { type: 'signedOut' };

export interface Channel {
  post(message: Message): void;
  close(): void;
}

/** Opens the channel with this name. Where there are no other tabs, nothing arrives and nothing is sent. */
export function openChannel(name: string, onMessage: (message: Message) => void): Channel {
  if (typeof BroadcastChannel === 'undefined') return { post: () => {}, close: () => {} };
  const channel = new BroadcastChannel(name);
  channel.onmessage = (event: MessageEvent<Message>) => onMessage(event.data);
  // In Node, an open channel keeps the process alive.
  (channel as { unref?: () => void }).unref?.();
  return { post: (message) => channel.postMessage(message), close: () => channel.close() };
}
