// What the users of a storm did, and the check that nothing of it was lost or stored twice.
import type { Deed, Done } from './page.js';

/** A write whose promise resolved: it is durable. */
export type Write = Done & { device: number };

/** What pages began that did not answer, because they died: it may have happened, to any row. */
export type Unanswered = Deed;

export interface History {
  writes: Write[];
  unanswered: Unanswered[];
}

export interface StoredEvent {
  id: string;
  version: number;
  notes: string | null;
  timeZone: string | null;
  token: unknown;
}

export interface RefusedEvent {
  device: number;
  kind: string;
  code: string;
  /** Of a refused create or restore. */
  token?: unknown;
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
export function faultsOf({ writes, unanswered }: History, { devices, server, refused }: Outcome): string[] {
  const faults: string[] = [];
  const text = (events: StoredEvent[]) => JSON.stringify([...events].sort((a, b) => (a.id < b.id ? -1 : 1)));
  devices.forEach((events, device) => {
    if (text(events) !== text(server)) faults.push(`device ${device} has other events than the server: ${difference(events, server)}`);
  });
  const tokens = server.map(({ token }) => token);
  if (new Set(tokens).size !== tokens.length) faults.push('an event is stored twice');
  const stored = new Map(server.map((event) => [event.token, event]));
  const lost: string[] = [];
  for (const token of new Set(writes.flatMap((write) => write.token ?? []))) {
    const own = writes.filter((write) => write.token === token);
    const event = stored.get(token);
    if (!event && isLost(own, refused.filter((other) => other.token === token))) lost.push(`the event ${token} is lost`);
    // The texts of a storm are there once, so a refused edit is found by them.
    if (event) faults.push(...faultsOfEvent(event, own, refused, unanswered));
  }
  faults.push(...unorderedEdits(writes));
  // Each deletion that was not answered may have taken one.
  const deletions = unanswered.filter(({ deed }) => deed === 'remove' || deed === 'removeAndRestore').length;
  return lost.length > deletions ? [...faults, ...lost] : faults;
}

/** The edit ids of an installation ascend, whatever its clock does and in whichever tab they are made. */
function unorderedEdits(writes: Write[]): string[] {
  const last = new Map<number, string>();
  return writes.flatMap(({ device, lastEdit }) => {
    const before = last.get(device);
    if (lastEdit) last.set(device, lastEdit);
    return before && lastEdit && lastEdit < before ? [`device ${device} made the edit id ${lastEdit} after ${before}`] : [];
  });
}

/** Whether an event that is nowhere was created, and nobody deleted it, and it was not refused. */
function isLost(writes: Write[], refused: RefusedEvent[]): boolean {
  const isCreated = writes.some(({ kind, fields }) => kind === 'create' && fields);
  const isRemoved = writes.some(({ kind }) => kind === 'remove' || kind === 'restore');
  return isCreated && !isRemoved && !refused.some(({ kind }) => kind === 'createEvent');
}

function faultsOfEvent(event: StoredEvent, writes: Write[], refused: RefusedEvent[], unanswered: Unanswered[]): string[] {
  // An event that was brought back without an answer may show whatever it once had.
  const mayBeRestored = unanswered.some(({ deed }) => deed === 'removeAndRestore');
  if (mayBeRestored) return [];
  const kinds = new Set(writes.map(({ kind }) => kind));
  const faults = kinds.has('remove') && !kinds.has('restore') ? [`the deletion of ${event.token} is lost`] : [];
  for (const name of FIELDS) {
    const possible = candidates(name, writes, refused);
    const isUnanswered = unanswered.some(({ deed, text }) => deed === 'update' && (name === 'timeZone' || event.notes === text));
    if (possible.size > 0 && !possible.has(event[name]) && !isUnanswered) {
      faults.push(`${name} of ${event.token} is ${event[name]}, not one of ${[...possible].join(', ')}`);
    }
  }
  return faults;
}

/** The values that a field may have in the end: for each device the last one that it wrote and that was not refused. */
function candidates(name: (typeof FIELDS)[number], writes: Write[], refused: RefusedEvent[]): Set<unknown> {
  const found = new Set<unknown>();
  for (const device of new Set(writes.map((write) => write.device))) {
    const own = writes.filter((write) => write.device === device && write.fields && name in write.fields);
    for (const write of own.toReversed()) {
      const value = write.fields![name];
      found.add(value);
      if (!refused.some((other) => other.device === device && other.fields[name] === value)) break;
    }
  }
  return found;
}

function difference(ours: StoredEvent[], theirs: StoredEvent[]): string {
  const known = new Map(theirs.map((event) => [event.id, JSON.stringify(event)]));
  const other = ours.filter((event) => known.get(event.id) !== JSON.stringify(event));
  const own = new Set(ours.map(({ id }) => id));
  const missing = theirs.filter(({ id }) => !own.has(id));
  return JSON.stringify({ other: other.slice(0, 3).map((event) => [event, known.get(event.id) ?? null]), missing: missing.slice(0, 3) });
}
