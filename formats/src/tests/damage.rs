//! Tests payloads that were cut or changed in transit, at seeded places. Reading them neither panics nor
//! hangs.

use super::*;

/// A generator of random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

#[test]
fn damage_ends_in_a_problem_and_the_records_before_it_are_right() {
    let seed = std::env::var("TESTS_SEED").map_or(42, |seed| seed.parse().unwrap());
    let rounds = if std::env::var_os("TESTS_FULL").is_some() { 500 } else { 15 };
    println!("TESTS_SEED={seed}");
    let mut random = Random(seed);
    for format in Format::ALL {
        let plain = sample(format, 60);
        let whole = read(format, &plain);
        for (packing, payload) in packings(&plain) {
            for round in 0..rounds {
                let at = random.below(payload.len());
                let mut damaged = payload.clone();
                let is_cut = round % 2 == 0;
                if is_cut {
                    damaged.truncate(at);
                } else {
                    damaged[at] ^= 1 << random.below(8);
                }
                let result = read(format, &damaged);
                let context = format!("{format:?} {packing}, cut: {is_cut}, at {at}: {:?}", result.error);
                match &result.error {
                    None => {}
                    Some(error) => {
                        let expected = [Code::PayloadFormat, Code::PayloadLimit];
                        assert!(
                            expected.contains(&error.to_problem_if_permanent().expect("a problem").code),
                            "{context}"
                        );
                    }
                }
                if is_cut && !result.records.is_empty() {
                    // The last record is cut: it is invalid, or an event that lacks its end.
                    let intact = result.records.len() - 1;
                    assert_eq!(result.records[..intact], whole.records[..intact], "{context}");
                }
            }
        }
    }
}
