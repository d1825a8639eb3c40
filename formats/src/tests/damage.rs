//! Payloads that were cut or changed in transit, at seeded places: nothing panics, and nothing hangs.

use super::*;

/// A generator of numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

#[test]
fn damage_ends_in_words_and_what_was_before_it_is_right() {
    let seed = std::env::var("TESTS_SEED").map_or(42, |seed| seed.parse().unwrap());
    let rounds = if std::env::var_os("TESTS_FULL").is_some() { 500 } else { 15 };
    println!("TESTS_SEED={seed}");
    let mut dice = Dice(seed);
    for format in Format::ALL {
        let plain = sample(format, 60);
        let whole = read(format, &plain);
        for (packing, payload) in packings(&plain) {
            for round in 0..rounds {
                let at = dice.below(payload.len());
                let mut damaged = payload.clone();
                let is_cut = round % 2 == 0;
                if is_cut {
                    damaged.truncate(at);
                } else {
                    damaged[at] ^= 1 << dice.below(8);
                }
                let found = read(format, &damaged);
                let what = format!("{format:?} {packing}, cut: {is_cut}, at {at}: {:?}", found.error);
                match &found.error {
                    None => {}
                    Some(error) => {
                        let expected = [Code::PayloadFormat, Code::PayloadLimit];
                        assert!(expected.contains(&error.problem().expect("a problem").code), "{what}");
                    }
                }
                if is_cut && !found.seen.is_empty() {
                    // A line that is cut is a record that is wrong, or an event that lacks its end.
                    let sound = found.seen.len() - 1;
                    assert_eq!(found.seen[..sound], whole.seen[..sound], "{what}");
                }
            }
        }
    }
}
