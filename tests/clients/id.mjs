// UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, 12 that tell those of one millisecond apart, and 62
// random ones.

const draw = () => crypto.getRandomValues(new BigUint64Array(2));

/** The 60 bits in front, which order ids, as an id with random bits behind them. */
function toId(front, rest) {
  const head = front.toString(16).padStart(15, '0');
  const tail = ((rest & 0x3fff_ffff_ffff_ffffn) | 0x8000_0000_0000_0000n).toString(16);
  return `${head.slice(0, 8)}-${head.slice(8, 12)}-7${head.slice(12)}-${tail.slice(0, 4)}-${tail.slice(4)}`;
}

/**
 * Makes ids of events and types. They follow the clock of now: after one that was ahead is put right, no id is refused
 * for its time. Those of one millisecond grow.
 */
export function idMaker(clock = Date.now, random = draw) {
  let last = 0n;
  return () => {
    const [start, rest] = random();
    const drawn = (BigInt(clock()) << 12n) | (start & 0x7ffn);
    const isClose = drawn <= last && last - drawn < 0x2000n;
    last = isClose ? last + 1n : drawn;
    return toId(last, rest);
  };
}

export const newId = idMaker();

/**
 * Makes the id of an edit. Edit ids of a device only grow, whatever its clock does and however often the app starts:
 * `last` is the one before, which the app stores with the edit; null for the first.
 */
export function editIdAfter(last, clock = Date.now, random = draw) {
  const [start, rest] = random();
  const drawn = (BigInt(clock()) << 12n) | (start & 0x7ffn);
  const before = last ? BigInt(`0x${last.slice(0, 8)}${last.slice(9, 13)}${last.slice(15, 18)}`) : 0n;
  return toId(drawn > before ? drawn : before + 1n, rest);
}
