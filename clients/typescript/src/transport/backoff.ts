// How long to wait before the next try.

const FIRST_MS = 1_000;
const LONGEST_MS = 60_000;
/** However long the server asks to wait, it is asked again after this time. */
const ASKED_MAX_MS = 3_600_000;

/**
 * The wait after so many failures in a row, at least as long as the server asks for. It doubles up to a minute; the
 * jitter keeps devices that lost the same server from coming back at the same time.
 */
export function backoffMs(failures: number, askedMs: number | null, random: () => number = Math.random): number {
  const wait = Math.min(FIRST_MS * 2 ** Math.max(failures - 1, 0), LONGEST_MS) * (0.5 + random());
  if (askedMs === null) return wait;
  const asked = Math.min(askedMs, ASKED_MAX_MS);
  return asked + Math.min(wait, asked);
}
