// What the users of a storm did, and the check that nothing of it was lost or stored twice.
import type { Done } from './page.js';

/** `isKnown`: the promise of the write resolved, so it is durable. Otherwise it may or may not have happened. */
export type Write = Done & { device: number; isKnown: boolean };

export interface StoredEvent {
  id: string;
  version: number;
  notes: string | null;
  timeZone: string | null;
  token: unknown;
}

export interface RefusedEvent {
  device: number;
  id: string;
  kind: string;
  code: string;
  fields: { notes?: unknown; timeZone?: unknown };
}

export interface Outcome {
  /** What each device shows in the end. */
  devices: StoredEvent[][];
  server: StoredEvent[];
  refused: RefusedEvent[];
}

const FIELDS = ['notes', 'timeZone'] as const;

/** Returns what is wrong; nothing if all is well. */
export function faultsOf(writes: Write[], { devices, server, refused }: Outcome): string[] {
  const faults: string[] = [];
  const text = (events: StoredEvent[]) => JSON.stringify([...events].sort((a, b) => (a.id < b.id ? -1 : 1)));
  devices.forEach((events, device) => {
    if (text(events) !== text(server)) faults.push(`device ${device} has other events than the server: ${difference(events, server)}`);
  });
  const tokens = server.map(({ token }) => token);
  if (new Set(tokens).size !== tokens.length) faults.push('an event is stored twice');
  const stored = new Map(server.map((event) => [event.id, event]));
  for (const id of new Set(writes.flatMap((write) => write.id ?? []))) {
    const own = writes.filter((write) => write.id === id);
    faults.push(...faultsOfRow(id, own, stored.get(id), refused.filter((other) => other.id === id)));
  }
  return faults;
}

function faultsOfRow(id: string, writes: Write[], event: StoredEvent | undefined, refused: RefusedEvent[]): string[] {
  const created = writes.find(({ kind, isKnown, fields }) => kind === 'create' && isKnown && fields);
  const isRemoved = writes.some(({ kind }) => kind === 'remove' || kind === 'restore');
  if (!event) {
    const isRefused = refused.some(({ kind }) => kind === 'createEvent');
    if (created && !isRemoved && !isRefused) return [`the event ${id} is lost`];
    // An edit of a deleted event is kept as refused.
    return isRefused || !isRemoved ? [] : lostEdits(id, writes, refused);
  }
  const removals = writes.filter(({ kind, isKnown }) => kind === 'remove' && isKnown);
  const restores = writes.filter(({ kind }) => kind === 'restore');
  const faults = removals.length > 0 && restores.length === 0 ? [`the deletion of ${id} is lost`] : [];
  for (const name of FIELDS) {
    const possible = candidates(name, writes, refused);
    if (possible.size > 0 && !possible.has(event[name])) faults.push(`${name} of ${id} is ${event[name]}, not one of ${[...possible].join(', ')}`);
  }
  return faults;
}

/**
 * The values that a field may have in the end: for each device the last one that it wrote, and all that were written
 * while it is not known whether they were stored.
 */
function candidates(name: (typeof FIELDS)[number], writes: Write[], refused: RefusedEvent[]): Set<unknown> {
  const found = new Set<unknown>();
  const devices = new Set(writes.map(({ device }) => device));
  for (const device of devices) {
    const own = writes.filter((write) => write.device === device && write.fields && name in write.fields);
    for (const write of own.toReversed()) {
      const value = write.fields![name];
      found.add(value);
      const isRefused = refused.some((other) => other.device === device && other.fields[name] === value);
      if (write.isKnown && !isRefused) break;
    }
  }
  return found;
}

/** Known edits of an event that is gone must be refused, unless their own device or an earlier time removed it. */
function lostEdits(id: string, writes: Write[], refused: RefusedEvent[]): string[] {
  const removers = new Set(writes.filter(({ kind }) => kind === 'remove' || kind === 'restore').map(({ device }) => device));
  const last = writes.filter(({ kind }) => kind === 'update').at(-1);
  const isLast = last?.isKnown && writes.at(-1) === last && !removers.has(last.device);
  if (!isLast) return [];
  const isRefused = refused.some(({ device, fields }) => device === last.device && FIELDS.some((name) => fields[name] !== undefined && fields[name] === last.fields![name]));
  return isRefused ? [] : [`the edit of ${id} after its deletion is neither stored nor refused`];
}

function difference(ours: StoredEvent[], theirs: StoredEvent[]): string {
  const known = new Map(theirs.map((event) => [event.id, JSON.stringify(event)]));
  const other = ours.filter((event) => known.get(event.id) !== JSON.stringify(event));
  const own = new Set(ours.map(({ id }) => id));
  const missing = theirs.filter(({ id }) => !own.has(id));
  return JSON.stringify({ other: other.slice(0, 3).map((event) => [event, known.get(event.id) ?? null]), missing: missing.slice(0, 3) });
}
