// A UUIDv7 (RFC 9562, section 5.7) whose successors are greater even within a millisecond and past a clock
// set back. Edits need that: of two by one client the server takes the one with the greater id as the later.

/** Makes ids. The 60 bits in front, 48 of Unix milliseconds and 12 to tell those of one apart, only grow. */
export function idMaker(clock = Date.now, random = () => crypto.getRandomValues(new BigUint64Array(2))) {
  let last = 0n;
  return () => {
    const [start, rest] = random();
    const drawn = (BigInt(clock()) << 12n) | (start & 0x7ffn);
    last = drawn > last ? drawn : last + 1n;
    const head = last.toString(16).padStart(15, '0');
    const tail = ((rest & 0x3fff_ffff_ffff_ffffn) | 0x8000_0000_0000_0000n).toString(16);
    return `${head.slice(0, 8)}-${head.slice(8, 12)}-7${head.slice(12)}-${tail.slice(0, 4)}-${tail.slice(4)}`;
  };
}

export const newId = idMaker();
