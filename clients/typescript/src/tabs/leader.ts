// Chooses one tab that syncs for all tabs of a user, by a Web Lock. The system frees the lock of a tab that is closed or
// crashes. A tab that is frozen keeps it: another tab that gets no answer from it takes the lock away.

import { reportUncaught } from '../callbacks.js';
import type { Channel } from './channel.js';

const PING_MS = 2_500;
/** After so many questions without an answer the leader is taken to be frozen: within 10 s. */
const UNANSWERED_MAX = 2;
/** How long a leader that failed for a reason that it does not know waits before the next. */
const RESTART_MS = 1_000;
/** Without Web Locks, how long a tab waits after another has taken over. */
const TURN_MS = 10_000;

/** A tab asks whether the leader runs, and the leader answers. */
export type PresenceMessage = { type: 'ping' } | { type: 'pong' };

export interface Candidate {
  /** Whether this tab leads now. */
  readonly isLeader: boolean;
  /** The leader has answered. */
  heard(): void;
  close(): void;
}

/**
 * Runs `lead` while this tab is the leader. `lead` ends soon after its signal aborts; it must also be safe that a
 * frozen leader wakes up beside a new one for a moment.
 */
export function runForLeader(name: string, channel: Pick<Channel<PresenceMessage>, 'post'>, lead: (signal: AbortSignal) => Promise<void>): Candidate {
  const closed = new AbortController();
  let term: AbortController | undefined;
  let unanswered = 0;

  const hold = async () => {
    const mine = new AbortController();
    term = mine;
    unanswered = 0;
    try {
      await lead(AbortSignal.any([mine.signal, closed.signal]));
    } catch (error) {
      // Nobody waits for a leader. The error is shown, and this tab or another leads again after a while.
      reportUncaught(error);
      await new Promise((resolve) => setTimeout(resolve, RESTART_MS));
    } finally {
      if (term === mine) term = undefined;
    }
  };

  const run = async () => {
    let steal = false;
    while (!closed.signal.aborted) {
      if (typeof navigator === 'undefined' || !navigator.locks) {
        // Then each tab leads in turn: the term of the last one ends those of the others.
        await hold();
        if (closed.signal.aborted) return;
        await new Promise((resolve) => setTimeout(resolve, TURN_MS));
        continue;
      }
      const waiting = new AbortController();
      const options: LockOptions = steal ? { steal: true } : { signal: AbortSignal.any([waiting.signal, closed.signal]) };
      const isFrozen = steal ? undefined : watch(() => waiting.abort(), closed.signal);
      try {
        await navigator.locks.request(name, options, async () => {
          isFrozen?.stop();
          await hold();
        });
      } catch (error) {
        // It rejects when the lock was taken away, and when this tab stops waiting for it.
        term?.abort();
        // The browser may refuse locks, for example in a frame of another origin.
        if ((error as DOMException).name !== 'AbortError') await new Promise((resolve) => setTimeout(resolve, TURN_MS));
      }
      isFrozen?.stop();
      steal = waiting.signal.aborted;
    }
  };

  /** Asks the leader again and again whether it runs; calls `onSilence` when it does not answer. */
  const watch = (onSilence: () => void, signal: AbortSignal) => {
    unanswered = 0;
    const timer = setInterval(() => {
      if (unanswered >= UNANSWERED_MAX) return onSilence();
      unanswered += 1;
      channel.post({ type: 'ping' });
    }, PING_MS * (0.9 + 0.2 * Math.random()));
    const stop = () => clearInterval(timer);
    signal.addEventListener('abort', stop, { once: true });
    return { stop };
  };

  void run();
  return {
    get isLeader() { return term !== undefined; },
    heard: () => { unanswered = 0; },
    close: () => closed.abort(),
  };
}
