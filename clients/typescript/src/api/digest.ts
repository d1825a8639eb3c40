// Compares this device with the server by digests: one hash for each month of the ids' times.

import { timeOf } from '../core/ids.js';
import type { Entity, Row } from '../core/model.js';
import { type Endpoint, send } from '../transport/http.js';

export interface DigestBucket {
  month: string;
  count: number;
  hash: string;
}

const DIGEST = `query Digest { events: syncDigest(entity: EVENT) { buckets { month count hash } }
  eventTypes: syncDigest(entity: EVENT_TYPE) { buckets { month count hash } } }`;

export async function serverDigest(endpoint: Endpoint): Promise<Record<Entity, DigestBucket[]>> {
  const data = await send<{ events: { buckets: DigestBucket[] }; eventTypes: { buckets: DigestBucket[] } }>(endpoint, DIGEST, {});
  return { EVENT: data.events.buckets, EVENT_TYPE: data.eventTypes.buckets };
}

/** The digest of rows of one kind: SHA-256 over the lines `id:version` of the rows that are not deleted, sorted by id. */
export async function digestOf(rows: Pick<Row, 'id' | 'version'>[]): Promise<DigestBucket[]> {
  const months = new Map<string, string[]>();
  for (const { id, version } of rows) {
    const month = new Date(timeOf(id)).toISOString().slice(0, -17);
    months.set(month, [...(months.get(month) ?? []), `${id}:${version}\n`]);
  }
  const sorted = [...months].sort(([a], [b]) => (a < b ? -1 : 1));
  return Promise.all(sorted.map(async ([month, lines]) => ({ month, count: lines.length, hash: await sha256(lines.sort().join('')) })));
}

async function sha256(text: string): Promise<string> {
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The months in which two digests differ. */
export function differingMonths(ours: DigestBucket[], theirs: DigestBucket[]): string[] {
  const known = new Map(theirs.map(({ month, hash }) => [month, hash]));
  const differing = ours.filter(({ month, hash }) => known.get(month) !== hash).map(({ month }) => month);
  const own = new Set(ours.map(({ month }) => month));
  return [...differing, ...theirs.map(({ month }) => month).filter((month) => !own.has(month))].sort();
}
