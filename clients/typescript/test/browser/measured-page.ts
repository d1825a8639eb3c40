// A page that measures the kit with many events. It runs in the browser.
import { createIdem } from '../../src/index.js';

const { subject, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1))) as { subject: string; token: string };
const longTasks: number[] = [];
new PerformanceObserver((list) => longTasks.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: 'longtask', buffered: true });
const idem = createIdem({ url: location.origin, subject, token: () => token });

const quantile = (values: number[], share: number) => [...values].sort((a, b) => a - b)[Math.floor(values.length * share)]!;

/** Waits until everything is received. Returns the seconds, and the longest task in milliseconds. */
async function bootstrap(): Promise<{ seconds: number; longestTaskMs: number; progress: number }> {
  const start = performance.now();
  let progress = 0;
  await new Promise<void>((resolve) => {
    const stop = idem.onStatus(({ lastSyncedAt, bootstrap: part }) => {
      progress = Math.max(progress, part?.done ?? 0);
      if (lastSyncedAt === null) return;
      stop();
      resolve();
    });
  });
  return { seconds: (performance.now() - start) / 1000, longestTaskMs: Math.max(0, ...longTasks), progress };
}

/** The time from a write to its promise, and to the call of a live list that has all events, in milliseconds at p95. */
async function writes(count: number): Promise<{ durableMs: number; shownMs: number }> {
  const [type] = await idem.types.list();
  let onShown: () => void = () => {};
  let expected = '';
  const list = idem.events.live({ limit: 100 }, (events) => { if (events.some(({ notes }) => notes === expected)) onShown(); });
  while (!list.rows) await new Promise((resolve) => setTimeout(resolve, 10));
  const [durable, shown]: [number[], number[]] = [[], []];
  for (let number = 0; number < count; number += 1) {
    expected = `written ${number}`;
    const start = performance.now();
    const isShown = new Promise<void>((resolve) => { onShown = resolve; });
    await idem.events.create({ eventTypeId: type!.id, timestamp: new Date(), notes: expected });
    const stored = performance.now();
    durable.push(stored - start);
    await isShown;
    shown.push(performance.now() - stored);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return { durableMs: quantile(durable, 0.95), shownMs: quantile(shown, 0.95) };
}

const measured = { bootstrap, writes };
export type Measured = typeof measured;
declare global {
  var measured: Measured;
}
globalThis.measured = measured;
