// Makes UUIDv7 ids (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 12 bits that order the ids of one
// millisecond, and 62 random bits.

/** Returns two random 64-bit numbers. */
export type Random = () => [bigint, bigint];

const TAIL_MASK = 0x3fff_ffff_ffff_ffffn;
const VARIANT = 0x8000_0000_0000_0000n;

export const randomPair: Random = () => {
  const [first, second] = crypto.getRandomValues(new BigUint64Array(2));
  return [first!, second!];
};

/** Formats the 60 bits that order ids, followed by 62 random bits. */
function format(order: bigint, random: bigint): string {
  const head = order.toString(16).padStart(15, '0');
  const tail = ((random & TAIL_MASK) | VARIANT).toString(16);
  return `${head.slice(0, 8)}-${head.slice(8, 12)}-7${head.slice(12)}-${tail.slice(0, 4)}-${tail.slice(4)}`;
}

/** The 60 bits that order ids: the time in milliseconds, and a random start within the millisecond. */
const orderAt = (nowMs: number, start: bigint) => (BigInt(Math.trunc(nowMs)) << 12n) | (start & 0x7ffn);

/** The 60 bits that order ids, read from an id. */
const orderOf = (id: string) => BigInt(`0x${id.slice(0, 8)}${id.slice(9, 13)}${id.slice(15, 18)}`);

/**
 * Returns a function that makes the ids of events and event types. The ids follow the clock: if the clock was ahead
 * and is set back, the ids go back with it, so that the server does not refuse them. Ids of one millisecond ascend.
 */
export function idMaker(clock: () => number = Date.now, random: Random = randomPair): () => string {
  let last = 0n;
  return () => {
    const [start, rest] = random();
    const drawn = orderAt(clock(), start);
    const isClose = drawn <= last && last - drawn < 0x2000n;
    last = isClose ? last + 1n : drawn;
    return format(last, rest);
  };
}

/**
 * Makes the id of an edit. The edit ids of one installation only ascend, whatever its clock does. `last` is the one
 * before, which is stored in the same transaction as the edit; null for the first.
 */
export function editIdAfter(last: string | null, nowMs: number, random: Random = randomPair): string {
  const [start, rest] = random();
  const drawn = orderAt(nowMs, start);
  const before = last === null ? 0n : orderOf(last);
  return format(drawn > before ? drawn : before + 1n, rest);
}

/** The time inside an id, in Unix milliseconds. */
export function timeOf(id: string): number {
  return Number(orderOf(id) >> 12n);
}

/** Whether a text is a UUIDv7 as the server takes it: 8-4-4-4-12 hexadecimal digits of either case. */
export function isUuidV7(text: string): boolean {
  return /^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/i.test(text);
}
