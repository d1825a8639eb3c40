// Counts and sums of events, computed by the server; without a network, the last answer to the same question.

import type { Fields, Json } from '../core/model.js';
import type { Storage } from '../storage/storage.js';
import type { Device } from '../sync/device.js';
import { type Endpoint, RequestError, send } from '../transport/http.js';

/** `EventStatsInput` of the server's schema. */
export interface StatsInput {
  timeZone: string;
  filter?: { eventTypeIds?: string[]; from?: string; to?: string; sourceTypes?: string[] };
  granularity?: 'HOUR' | 'DAY' | 'WEEK' | 'MONTH' | 'QUARTER' | 'YEAR';
  dayStartMinutes?: number;
  weekStart?: string;
  groupBy?: ('EVENT_TYPE' | 'SOURCE_TYPE' | 'WEEKDAY' | 'HOUR_OF_DAY')[];
  measures?: { property: string; unitProperty?: string }[];
  fill?: boolean;
  preferSources?: string[];
  sourceProperty?: string;
}

export interface StatsBucket {
  start: string | null;
  end: string | null;
  localDate: string | null;
  eventTypeId: string | null;
  sourceType: string | null;
  weekday: string | null;
  hourOfDay: number | null;
  count: number;
  durationSeconds: number;
  measures: { property: string; unit: string | null; count: number; sum: number; average: number; minimum: number; maximum: number }[];
}

export interface StatsAnswer {
  buckets: StatsBucket[];
  total: StatsBucket;
  /** When the server gave this answer. */
  answeredAt: Date;
}

const BUCKET = `start end localDate eventTypeId sourceType weekday hourOfDay count durationSeconds
  measures { property unit count sum average minimum maximum }`;
const STATS = `query Stats($input: EventStatsInput!) { eventStats(input: $input) { buckets { ${BUCKET} } total { ${BUCKET} } } }`;

interface Kept { buckets: StatsBucket[]; total: StatsBucket; at: number }

export async function stats(storage: Storage, endpoint: Endpoint, device: Device, input: StatsInput): Promise<StatsAnswer> {
  const key = `stats ${JSON.stringify(input)}`;
  let kept: Kept | undefined;
  try {
    const { eventStats } = await send<{ eventStats: Omit<Kept, 'at'> }>(endpoint, STATS, { input: input as unknown as Fields });
    kept = { ...eventStats, at: device.now() };
    await storage.write(async (tx) => {
      if ((await tx.installation())?.isSignedOut === false) await tx.putValue(key, kept as unknown as Json);
    }, 'relaxed');
  } catch (error) {
    if (!(error instanceof RequestError) || error.kind === 'refused') throw error;
    kept = (await storage.read((tx) => tx.value(key))) as Kept | undefined;
    if (!kept) throw error;
  }
  return { buckets: kept.buckets, total: kept.total, answeredAt: new Date(kept.at) };
}
