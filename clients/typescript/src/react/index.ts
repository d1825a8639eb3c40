// Hooks for React: they read what this device has, and follow it.

import { useCallback, useMemo, useRef, useSyncExternalStore } from 'react';

import type { IdemEvent, IdemEventType } from '../api/entities.js';
import type { EventQuery, LiveList } from '../api/live.js';
import type { RefusedWrite } from '../api/refused.js';
import type { Idem } from '../client.js';
import type { Status } from '../sync/status.js';

export interface UsedEvents {
  /** The events, newest first; undefined until they were read for the first time. */
  events: readonly IdemEvent[] | undefined;
  hasMore: boolean;
  loadMore(count?: number): void;
}

const NOTHING = { rows: undefined, hasMore: false } as const;

/** The events of a query. A query with the same content is the same query, so it may be written in place. */
export function useEvents(idem: Idem, query: EventQuery = {}): UsedEvents {
  const key = JSON.stringify(query);
  const { list, shown } = useLive<IdemEvent>(
    useCallback((onRows: () => void) => idem.events.live(JSON.parse(key) as EventQuery, onRows), [idem, key]),
  );
  return useMemo(() => ({ events: shown.rows, hasMore: shown.hasMore, loadMore: (count) => list.current?.loadMore(count) }), [shown, list]);
}

/** The event types by name; undefined until they were read for the first time. */
export function useEventTypes(idem: Idem): readonly IdemEventType[] | undefined {
  return useLive<IdemEventType>(useCallback((onRows: () => void) => idem.types.live(onRows), [idem])).shown.rows;
}

/** What an app can show of sync. */
export function useSyncStatus(idem: Idem): Status {
  return useSyncExternalStore(useCallback((onChange) => idem.onStatus(onChange), [idem]), () => idem.status, () => idem.status);
}

/** The writes that the server refused, oldest first; undefined until they were read for the first time. */
export function useRefused(idem: Idem): readonly RefusedWrite[] | undefined {
  const { current: store } = useRef<{ writes: readonly RefusedWrite[] | undefined }>({ writes: undefined });
  const subscribe = useCallback((onChange: () => void) => {
    let isOpen = true;
    const read = () => void idem.refused.list().then((writes) => {
      if (!isOpen || JSON.stringify(writes) === JSON.stringify(store.writes)) return;
      store.writes = writes;
      onChange();
    }, () => {});
    read();
    const stop = idem.onStatus(read);
    return () => {
      isOpen = false;
      stop();
    };
  }, [idem, store]);
  return useSyncExternalStore(subscribe, () => store.writes, () => undefined);
}

/** Follows a live list while a component shows it. */
function useLive<T>(open: (onRows: () => void) => LiveList<T>) {
  const list = useRef<LiveList<T> | undefined>(undefined);
  const shown = useRef<{ rows: readonly T[] | undefined; hasMore: boolean }>(NOTHING);
  const subscribe = useCallback((onChange: () => void) => {
    const opened = open(() => {
      // The list calls before `open` has returned only if it is read at once, which it never is.
      shown.current = { rows: opened.rows, hasMore: opened.hasMore };
      onChange();
    });
    list.current = opened;
    return () => {
      opened.close();
      list.current = undefined;
    };
  }, [open]);
  const snapshot = useSyncExternalStore(subscribe, () => shown.current, () => NOTHING);
  return { list, shown: snapshot };
}
