// What the tabs of a user tell each other.

import type { PresenceMessage } from '../tabs/leader.js';
import type { Commit } from './device.js';
import type { SyncStatus } from './status.js';

export type Message =
  | PresenceMessage
  /** Rows have changed. */
  | { type: 'committed'; commit: Commit }
  | { type: 'status'; status: SyncStatus }
  /** A new tab asks for the status. */
  | { type: 'hello' }
  /** A tab asks the leader to sync now. */
  | { type: 'wake' }
  /** The user has signed out: the database is gone. */
  | { type: 'signedOut' };
